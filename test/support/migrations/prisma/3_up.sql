-- As made by: @prisma/schema-engine-wasm@8.1.0-2.59be4fda, its diff() of two schemas
-- AlterEnum
BEGIN;
CREATE TYPE "Level_new" AS ENUM ('visitor', 'member');
ALTER TABLE "Person" ALTER COLUMN "level" DROP DEFAULT;
ALTER TABLE "Person" ALTER COLUMN "level" TYPE "Level_new" USING ("level"::text::"Level_new");
ALTER TYPE "Level" RENAME TO "Level_old";
ALTER TYPE "Level_new" RENAME TO "Level";
DROP TYPE "Level_old";
COMMIT;

-- DropForeignKey
ALTER TABLE "Membership" DROP CONSTRAINT "Membership_personId_fkey";

-- DropForeignKey
ALTER TABLE "Membership" DROP CONSTRAINT "Membership_teamId_fkey";

-- DropIndex
DROP INDEX "Person_level_idx";

-- DropIndex
DROP INDEX "Post_tags_idx";

-- AlterTable
ALTER TABLE "Person" DROP COLUMN "note",
DROP COLUMN "scores",
DROP COLUMN "seen_at",
ALTER COLUMN "level" DROP NOT NULL,
ALTER COLUMN "level" DROP DEFAULT;

-- AlterTable
ALTER TABLE "Post" DROP COLUMN "tags",
ALTER COLUMN "text" SET DATA TYPE VARCHAR(500);

-- AlterTable
ALTER TABLE "Label" ADD COLUMN     "color" SMALLINT NOT NULL DEFAULT 7;

-- DropTable
DROP TABLE "teams";

-- DropTable
DROP TABLE "Membership";

-- CreateIndex
CREATE UNIQUE INDEX "Post_writerId_key" ON "Post"("writerId");

