-- How a sequence keeps nodes from giving out one value twice. The same on all nodes: what is set here travels as a row, and each
-- node carries it out where the row is written, where it arrives, or once the sequence is there (docs/guides/sequences.md).

-- The columns that a sequence numbers.
CREATE OR REPLACE FUNCTION bdr.internal_sequence_columns(
    sequence regclass,
    OUT relation regclass, OUT name name, OUT type regtype, OUT is_identity boolean,
    -- How the column draws: as serial does, as global_seq_nextval() does, or by an expression of its own.
    OUT draws text
)
RETURNS SETOF record
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT a.attrelid::regclass, a.attname, a.atttypid::regtype, a.attidentity <> '',
           CASE
               WHEN a.attidentity <> '' OR e.expression = format('nextval(%L::regclass)', sequence::text) THEN 'local'
               WHEN e.expression = format('bdr.global_seq_nextval(%L::regclass)', sequence::text) THEN 'snowflake'
               ELSE 'otherwise'
           END
    FROM (
        SELECT d.refobjid AS relation, d.refobjsubid::smallint AS number, NULL::oid AS default_value
        FROM pg_depend AS d
        WHERE d.classid = 'pg_class'::regclass AND d.objid = sequence AND d.refclassid = 'pg_class'::regclass AND d.deptype = 'i'
        UNION ALL
        SELECT f.adrelid, f.adnum, f.oid
        FROM pg_depend AS d
        JOIN pg_attrdef AS f ON f.oid = d.objid
        WHERE d.classid = 'pg_attrdef'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = sequence
    ) AS uses
    JOIN pg_attribute AS a ON a.attrelid = uses.relation AND a.attnum = uses.number
    LEFT JOIN pg_attrdef AS f ON f.oid = uses.default_value
    CROSS JOIN LATERAL pg_get_expr(f.adbin, f.adrelid) AS e (expression)
    ORDER BY a.attrelid, a.attnum
$$;
REVOKE ALL ON FUNCTION bdr.internal_sequence_columns(regclass) FROM PUBLIC;

-- The greatest value that is known here to have been given out: by the sequence, and in the columns that it numbers, where an index
-- tells quickly. A sequence at its end gives out nothing more, and may have been set there for that.
CREATE OR REPLACE FUNCTION bdr.internal_greatest_drawn(sequence regclass)
RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    greatest_drawn bigint := (
        SELECT coalesce(nullif(pg_sequence_last_value(s.seqrelid), s.seqmax), 0) FROM pg_sequence AS s WHERE s.seqrelid = sequence
    );
    target record;
    found bigint;
BEGIN
    FOR target IN
        SELECT c.*, r.oid AS owner, r.rolsuper AS is_trusted
        FROM bdr.internal_sequence_columns(sequence) AS c
        JOIN pg_class AS t ON t.oid = c.relation
        JOIN pg_roles AS r ON r.oid = t.relowner
        WHERE c.type IN ('smallint'::regtype, 'integer'::regtype, 'bigint'::regtype)
          AND EXISTS (
              SELECT FROM pg_index AS i
              JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
              WHERE i.indrelid = c.relation AND a.attname = c.name AND i.indisvalid AND i.indpred IS NULL
          )
    LOOP
        -- To plan the query may run code of the table's owner.
        IF target.is_trusted THEN
            EXECUTE format('SELECT max(%I) FROM %s', target.name, target.relation) INTO found;
        ELSE
            found := nullif(bdr.internal_run_restricted(
                target.owner, format('SELECT max(%I)::text FROM %s', target.name, target.relation)
            ), '');
        END IF;
        greatest_drawn := greatest(greatest_drawn, found);
    END LOOP;
    RETURN greatest_drawn;
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_greatest_drawn(regclass) FROM PUBLIC;

-- This node's number; NULL while it has none.
CREATE OR REPLACE FUNCTION bdr.internal_local_number()
RETURNS bigint
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT n.node_seq_id::bigint
    FROM bdr.bdr_nodes AS n
    JOIN bdr.bdr_get_local_nodeid() AS me ON (n.node_sysid, n.node_timeline, n.node_dboid) = (me.sysid, me.timeline, me.dboid)
$$;
REVOKE ALL ON FUNCTION bdr.internal_local_number() FROM PUBLIC;

-- The sequence that a row is about; NULL where it is not here.
CREATE OR REPLACE FUNCTION bdr.internal_sequence_of(wanted bdr.sequence_kind)
RETURNS regclass
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT c.oid::regclass
    FROM pg_class AS c
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE n.nspname = wanted.schema_name AND c.relname = wanted.sequence_name AND c.relkind = 'S' AND c.relpersistence = 'p'
$$;
REVOKE ALL ON FUNCTION bdr.internal_sequence_of(bdr.sequence_kind) FROM PUBLIC;

CREATE OR REPLACE FUNCTION bdr.internal_is_carried_out(wanted bdr.sequence_kind)
RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    sequence regclass := bdr.internal_sequence_of(wanted);
    last bigint := pg_sequence_last_value(sequence);
    form pg_sequence;
    draws text[];
BEGIN
    SELECT s.* INTO form FROM pg_sequence AS s WHERE s.seqrelid = sequence;
    draws := ARRAY(SELECT c.draws FROM bdr.internal_sequence_columns(sequence) AS c);
    RETURN coalesce(CASE wanted.kind
        WHEN 'snowflake' THEN form.seqtypid = 'bigint'::regtype AND form.seqincrement = 1 AND form.seqcache = 1
            AND form.seqmin = -9223372036854775808 AND 'local' <> ALL (draws)
        WHEN 'step' THEN form.seqincrement = wanted.step AND NOT form.seqcycle AND last % wanted.step = bdr.internal_local_number()
            AND last >= wanted.above AND 'snowflake' <> ALL (draws)
        WHEN 'local' THEN form.seqincrement = 1 AND (last >= wanted.above OR wanted.above = 0) AND 'snowflake' <> ALL (draws)
    END, false);
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_is_carried_out(bdr.sequence_kind) FROM PUBLIC;

-- A default cannot stand on an identity column, and its sequence goes with the identity: one of the same name takes its place, owned
-- by the column as before. Who may insert needs no right to an identity's sequence, but needs it to draw from one.
CREATE OR REPLACE FUNCTION bdr.internal_drop_identity(relation regclass, name name, sequence regclass)
RETURNS regclass
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    place text := (
        SELECT format('%I.%I', n.nspname, c.relname)
        FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.oid = sequence
    );
    owner name := (SELECT pg_get_userbyid(c.relowner) FROM pg_class AS c WHERE c.oid = relation);
    last bigint := pg_sequence_last_value(sequence);
    grantee text;
BEGIN
    EXECUTE format('ALTER TABLE %s ALTER COLUMN %I DROP IDENTITY', relation, name);
    EXECUTE format('CREATE SEQUENCE %s', place);
    EXECUTE format('ALTER SEQUENCE %s OWNER TO %I', place, owner);
    EXECUTE format('ALTER SEQUENCE %s OWNED BY %s.%I', place, relation, name);
    IF last IS NOT NULL THEN
        PERFORM setval(place::regclass, last);
    END IF;
    FOR grantee IN
        SELECT DISTINCT CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(g.grantee)) END
        FROM (
            SELECT c.relacl AS acl FROM pg_class AS c WHERE c.oid = relation
            UNION ALL
            SELECT a.attacl FROM pg_attribute AS a WHERE a.attrelid = relation AND a.attnum > 0 AND NOT a.attisdropped
        ) AS granted
        CROSS JOIN LATERAL aclexplode(granted.acl) AS g
        WHERE g.privilege_type = 'INSERT'
    LOOP
        EXECUTE format('GRANT USAGE ON SEQUENCE %s TO %s', place, grantee);
    END LOOP;
    RETURN place::regclass;
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_drop_identity(regclass, name, regclass) FROM PUBLIC;

-- Makes the sequence what a row wants, where that can be done and is not done yet. `is_copied`: it was copied from another node, which has
-- accepted the row; else another role's sequence of this name is left alone.
CREATE OR REPLACE FUNCTION bdr.internal_carry_out(wanted bdr.sequence_kind, is_copied boolean)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
-- Each node does that for itself.
SET bdr.skip_ddl_replication = on
AS $$
DECLARE
    sequence regclass := bdr.internal_sequence_of(wanted);
    form pg_sequence;
    target record;
    number bigint := bdr.internal_local_number();
    drawn bigint;
    last bigint;
BEGIN
    IF sequence IS NULL OR bdr.internal_is_carried_out(wanted) THEN
        RETURN;
    END IF;
    IF NOT is_copied AND NOT EXISTS (
        SELECT FROM pg_class AS c WHERE c.oid = sequence AND pg_get_userbyid(c.relowner) = wanted.owner_name
    ) THEN
        RETURN;
    END IF;

    IF wanted.kind = 'snowflake' THEN
        IF EXISTS (SELECT FROM bdr.internal_sequence_columns(sequence) AS c WHERE c.type <> 'bigint'::regtype) THEN
            RETURN;
        END IF;
        FOR target IN SELECT c.* FROM bdr.internal_sequence_columns(sequence) AS c WHERE c.is_identity LOOP
            sequence := bdr.internal_drop_identity(target.relation, target.name, sequence);
            EXECUTE format(
                'ALTER TABLE %s ALTER COLUMN %I SET DEFAULT bdr.global_seq_nextval(%L::regclass)', target.relation, target.name, sequence
            );
        END LOOP;
        -- Below zero from 2034 on, as the layout has it.
        EXECUTE format(
            'ALTER SEQUENCE %s AS bigint INCREMENT BY 1 MINVALUE -9223372036854775808 NO MAXVALUE NO CYCLE CACHE 1', sequence
        );
        FOR target IN SELECT c.* FROM bdr.internal_sequence_columns(sequence) AS c WHERE c.draws = 'local' LOOP
            EXECUTE format(
                'ALTER TABLE ONLY %s ALTER COLUMN %I SET DEFAULT bdr.global_seq_nextval(%L::regclass)',
                target.relation, target.name, sequence
            );
        END LOOP;
        RETURN;
    END IF;

    IF number IS NULL THEN
        RETURN;
    END IF;
    -- First of all: it waits for those who have drawn, and holds back others.
    EXECUTE format('ALTER SEQUENCE %s INCREMENT BY %s NO CYCLE', sequence, coalesce(wanted.step, 1));
    FOR target IN SELECT c.* FROM bdr.internal_sequence_columns(sequence) AS c WHERE c.draws = 'snowflake' LOOP
        EXECUTE format(
            'ALTER TABLE ONLY %s ALTER COLUMN %I SET DEFAULT nextval(%L::regclass)', target.relation, target.name, sequence
        );
    END LOOP;
    SELECT s.* INTO form FROM pg_sequence AS s WHERE s.seqrelid = sequence;
    drawn := greatest(wanted.above, bdr.internal_greatest_drawn(sequence), form.seqmin);
    last := drawn;
    IF wanted.kind = 'step' THEN
        last := drawn - drawn % wanted.step + number;
        IF last < drawn THEN
            last := last + wanted.step;
        END IF;
        -- No remainder is left for this node: better nothing than what another node gives out.
        IF number >= wanted.step THEN
            last := form.seqmax;
        END IF;
    END IF;
    PERFORM setval(sequence, least(last, form.seqmax));
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_carry_out(bdr.sequence_kind, boolean) FROM PUBLIC;

-- What could not be done when a row came: the sequence was not there yet, or somebody held it.
CREATE OR REPLACE FUNCTION bdr.internal_carry_out_all()
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '100ms'
AS $$
DECLARE
    wanted bdr.sequence_kind;
BEGIN
    FOR wanted IN SELECT k.* FROM bdr.sequence_kind AS k LOOP
        BEGIN
            PERFORM bdr.internal_carry_out(wanted, false);
        EXCEPTION
            WHEN lock_not_available THEN
                NULL; -- next time
        END;
    END LOOP;
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_carry_out_all() FROM PUBLIC;

-- In a joining node, whose sequences stand where those of its source stood.
CREATE OR REPLACE FUNCTION bdr.internal_take_over_sequences()
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    sequence regclass;
    last bigint;
    wanted bdr.sequence_kind;
BEGIN
    -- A count that is no id: this node begins a millisecond of its own.
    FOR sequence, last IN
        SELECT s.seqrelid::regclass, pg_sequence_last_value(s.seqrelid::regclass)
        FROM pg_sequence AS s
        WHERE bdr.internal_is_snowflake(s.seqrelid::regclass)
    LOOP
        PERFORM setval(sequence, (last >> 24 << 24) | 4096) WHERE last >> 24 <> 0;
    END LOOP;
    FOR wanted IN SELECT k.* FROM bdr.sequence_kind AS k LOOP
        PERFORM bdr.internal_carry_out(wanted, true);
    END LOOP;
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_take_over_sequences() FROM PUBLIC;

-- When BDR is removed: sequences go on from where they are, one by one.
CREATE OR REPLACE FUNCTION bdr.internal_make_sequences_local()
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
-- Each node does that for itself.
SET bdr.skip_ddl_replication = on
AS $$
DECLARE
    place record;
    number bigint := bdr.internal_local_number();
BEGIN
    IF number IS NULL THEN
        RETURN;
    END IF;
    FOR place IN
        SELECT n.nspname, c.relname, pg_get_userbyid(c.relowner) AS owner
        FROM pg_class AS c
        JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE c.relkind = 'S'
          AND (bdr.internal_is_snowflake(c.oid::regclass) OR EXISTS (
              SELECT FROM bdr.sequence_kind AS k
              WHERE k.kind = 'step' AND (k.schema_name, k.sequence_name) = (n.nspname, c.relname)
          ))
    LOOP
        PERFORM bdr.internal_carry_out(
            (place.nspname, place.relname, 'local', NULL, 0, place.owner)::bdr.sequence_kind, true
        );
    END LOOP;
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_make_sequences_local() FROM PUBLIC;

-- Everybody may write rows about sequences of his own: that is how convert_sequence() works for those who are no superusers.
GRANT SELECT, INSERT, UPDATE ON bdr.sequence_kind TO PUBLIC;

-- What is asked for here, not what arrives: refuses what cannot be, and says above what every node goes on.
CREATE OR REPLACE FUNCTION bdr.internal_check_sequence_kind()
RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    sequence regclass := bdr.internal_sequence_of(NEW);
    form pg_sequence;
    target record;
    drawn bigint;
    most integer;
BEGIN
    SELECT s.* INTO form FROM pg_sequence AS s WHERE s.seqrelid = sequence;
    NEW.owner_name := (SELECT pg_get_userbyid(c.relowner) FROM pg_class AS c WHERE c.oid = sequence);
    IF form.seqincrement < 0 THEN
        RAISE EXCEPTION 'sequence % counts down', sequence
            USING ERRCODE = 'feature_not_supported', HINT = format('ALTER SEQUENCE %s INCREMENT BY 1 ... first.', sequence);
    END IF;
    FOR target IN SELECT c.* FROM bdr.internal_sequence_columns(sequence) AS c LOOP
        IF target.draws = 'otherwise' THEN
            RAISE EXCEPTION 'default of column "%" of table % draws from sequence % by an expression of its own',
                    target.name, target.relation, sequence
                USING ERRCODE = 'feature_not_supported',
                      HINT = 'Drop that default, convert the sequence, and set a default on every node that uses bdr.global_seq_nextval() or nextval().';
        END IF;
        IF NEW.kind = 'snowflake' AND target.type <> 'bigint'::regtype THEN
            RAISE EXCEPTION 'snowflake ids of sequence % do not fit into column "%" of table %, which is of type %',
                    sequence, target.name, target.relation, target.type
                USING ERRCODE = 'datatype_mismatch',
                      DETAIL = 'They need bigint.',
                      HINT = format('Kind "step" does fit. Or make the column bigint on every node, which rewrites the table: '
                          || 'ALTER TABLE %s ALTER COLUMN %I TYPE bigint;', target.relation, target.name);
        END IF;
    END LOOP;
    IF NEW.kind = 'step' THEN
        NEW.step := coalesce(
            NEW.step, CASE form.seqtypid WHEN 'bigint'::regtype THEN 1024 WHEN 'integer'::regtype THEN 128 ELSE 16 END
        );
        most := (SELECT max(n.node_seq_id) FROM bdr.bdr_nodes AS n);
        IF most >= NEW.step THEN
            RAISE EXCEPTION 'a step of % has no remainder for node number %', NEW.step, most
                USING ERRCODE = 'invalid_parameter_value',
                      HINT = 'The step must be greater than every node''s number, with room for nodes that join later.';
        END IF;
    END IF;
    IF NEW.kind <> 'snowflake' THEN
        drawn := bdr.internal_greatest_drawn(sequence);
        -- Others give out values as before until the row has arrived there.
        IF (SELECT count(*) FROM bdr.bdr_nodes AS n WHERE n.node_status <> 'k') > 1 THEN
            drawn := drawn + least(100000, (form.seqmax - drawn) / 100);
        END IF;
        NEW.above := drawn;
    END IF;
    RETURN NEW;
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_check_sequence_kind() FROM PUBLIC;

CREATE OR REPLACE TRIGGER sequence_kind_asked BEFORE INSERT OR UPDATE ON bdr.sequence_kind
    FOR EACH ROW EXECUTE FUNCTION bdr.internal_check_sequence_kind();

-- Where the row is written and where it arrives; in a node that is being filled, the join does it once the values are copied.
CREATE OR REPLACE FUNCTION bdr.internal_sequence_kind_changed()
RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT bdr.internal_is_being_filled() THEN
        PERFORM bdr.internal_carry_out(NEW, false);
    END IF;
    RETURN NULL;
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_sequence_kind_changed() FROM PUBLIC;

CREATE OR REPLACE TRIGGER sequence_kind_changed AFTER INSERT OR UPDATE ON bdr.sequence_kind
    FOR EACH ROW EXECUTE FUNCTION bdr.internal_sequence_kind_changed();
ALTER TABLE bdr.sequence_kind ENABLE ALWAYS TRIGGER sequence_kind_changed;

CREATE OR REPLACE FUNCTION bdr.convert_sequence(sequence regclass, kind text, step bigint DEFAULT NULL)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    wanted_kind ALIAS FOR $2;
    wanted_step ALIAS FOR $3;
    place record;
BEGIN
    IF sequence IS NULL OR wanted_kind IS NULL THEN
        RAISE EXCEPTION 'neither sequence nor kind may be null' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF wanted_kind NOT IN ('snowflake', 'step', 'local') THEN
        RAISE EXCEPTION 'kind "%" of a sequence is not known', wanted_kind
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Kinds are snowflake, step and local.';
    END IF;
    IF wanted_step IS NOT NULL AND (wanted_kind <> 'step' OR wanted_step NOT BETWEEN 2 AND 32767) THEN
        RAISE EXCEPTION 'a step is given for kind "step" alone, and lies between 2 and 32767'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    SELECT n.nspname, c.relname, c.relkind, c.relpersistence, c.relowner INTO place
    FROM pg_class AS c
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.oid = sequence;
    IF place.relkind IS DISTINCT FROM 'S' OR place.relpersistence <> 'p' THEN
        RAISE EXCEPTION '% is not a permanent sequence', sequence USING ERRCODE = 'wrong_object_type';
    END IF;
    IF NOT pg_has_role(place.relowner, 'USAGE') THEN
        RAISE EXCEPTION 'must be owner of sequence %', sequence USING ERRCODE = 'insufficient_privilege';
    END IF;
    IF place.nspname = 'bdr' THEN
        RAISE EXCEPTION 'permission denied: % is a sequence of BDR', sequence USING ERRCODE = 'insufficient_privilege';
    END IF;
    -- This node is ready, with a number of its own.
    PERFORM bdr.internal_snowflake_number();
    INSERT INTO bdr.sequence_kind AS k (schema_name, sequence_name, kind, step, owner_name)
    VALUES (place.nspname, place.relname, wanted_kind, wanted_step, '')
    ON CONFLICT ON CONSTRAINT sequence_kind_pkey DO UPDATE
    SET kind = EXCLUDED.kind, step = EXCLUDED.step, above = EXCLUDED.above, owner_name = EXCLUDED.owner_name;
END
$$;
COMMENT ON FUNCTION bdr.convert_sequence(regclass, text, bigint) IS
    'Makes a sequence, and the columns that it numbers, give out values that no other node gives out, on all nodes: snowflake, step or local';

CREATE OR REPLACE VIEW bdr.bdr_sequence_kinds AS
SELECT k.schema_name, k.sequence_name, k.kind, k.step, bdr.internal_is_carried_out(k) AS is_in_effect
FROM bdr.sequence_kind AS k;
COMMENT ON VIEW bdr.bdr_sequence_kinds IS
    'Sequences that were converted by convert_sequence(); is_in_effect: this node''s sequence, and the columns that it numbers, are so';
REVOKE ALL ON bdr.bdr_sequence_kinds FROM PUBLIC;
