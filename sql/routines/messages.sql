-- Messages to peers' agents, in this node's own log, under prefix "bdr". pg_logical_emit_message() is open to every role, so
-- agents ignore what this node has not signed (DESIGN 3.5, docs/decisions/0016-signed-messages.md).

-- A time as the server and its log hold it: in microseconds since 2000.
CREATE OR REPLACE FUNCTION bdr.internal_pg_time(at timestamptz)
RETURNS bigint
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT (extract(epoch FROM at - timestamptz '2000-01-01 00:00:00+00') * 1000000)::bigint $$;
REVOKE ALL ON FUNCTION bdr.internal_pg_time(timestamptz) FROM PUBLIC;

CREATE OR REPLACE FUNCTION bdr.internal_renew_secret()
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    DELETE FROM bdr.message_secret;
    -- The server takes these from its source of strong randomness: 122 bits each.
    INSERT INTO bdr.message_secret (secret)
    VALUES (decode(replace(concat(gen_random_uuid(), gen_random_uuid()), '-', ''), 'hex'));
END
$$;
COMMENT ON FUNCTION bdr.internal_renew_secret() IS
    'Makes a new secret for this node''s messages; links of its peers know it from their next start on';
REVOKE ALL ON FUNCTION bdr.internal_renew_secret() FROM PUBLIC;

-- HMAC of RFC 2104 over the server's own sha256(), because pgcrypto may not be there.
CREATE OR REPLACE FUNCTION bdr.internal_hmac_sha256(secret bytea, message bytea)
RETURNS bytea
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT sha256(pad.outside || sha256(pad.inside || $2))
    FROM (
        SELECT string_agg(set_byte(E'\\x00', 0, get_byte(block.bytes, at) # 54), '' ORDER BY at) AS inside,
               string_agg(set_byte(E'\\x00', 0, get_byte(block.bytes, at) # 92), '' ORDER BY at) AS outside
        FROM (
            SELECT short.secret || decode(repeat('00', 64 - length(short.secret)), 'hex') AS bytes
            FROM (SELECT CASE WHEN length($1) > 64 THEN sha256($1) ELSE $1 END AS secret) AS short
        ) AS block
        CROSS JOIN generate_series(0, 63) AS at
    ) AS pad
$$;
REVOKE ALL ON FUNCTION bdr.internal_hmac_sha256(bytea, bytea) FROM PUBLIC;

-- The text to emit: the signature in hex, a space, the content. Who this node is goes into the signature, because a copy of the
-- database holds the same secret.
CREATE OR REPLACE FUNCTION bdr.internal_sign_message(content jsonb)
RETURNS text
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    signed text := (
        SELECT format('%s,%s,%s %s', me.sysid, me.timeline, me.dboid, content) FROM bdr.bdr_get_local_nodeid() AS me
    );
    signature bytea := (
        SELECT bdr.internal_hmac_sha256(s.secret, convert_to(signed, 'UTF8')) FROM bdr.message_secret AS s
    );
BEGIN
    IF signature IS NULL THEN
        RAISE EXCEPTION 'this node has no secret to sign messages with'
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'SELECT bdr.internal_renew_secret();';
    END IF;
    RETURN format('%s %s', encode(signature, 'hex'), content);
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_sign_message(jsonb) FROM PUBLIC;

-- Leaves a signed message in the log, in no transaction, so that it stands there at once; and on disk, from where it is sent, from 17 on.
-- Before, that takes the next commit.
CREATE OR REPLACE FUNCTION bdr.internal_emit_message(message text)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    -- As it is signed: a text would be sent in the encoding of the database.
    content bytea := convert_to(message, 'UTF8');
BEGIN
    IF bdr.internal_server_major() >= 17 THEN
        EXECUTE $emit$ SELECT pg_logical_emit_message(false, 'bdr', $1, flush => true) $emit$ USING content;
    ELSE
        PERFORM pg_logical_emit_message(false, 'bdr', content);
    END IF;
END
$$;
REVOKE ALL ON FUNCTION bdr.internal_emit_message(text) FROM PUBLIC;
