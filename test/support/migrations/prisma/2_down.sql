-- As made by: @prisma/schema-engine-wasm@8.1.0-2.59be4fda, its diff() of two schemas
-- AlterEnum
BEGIN;
CREATE TYPE "Level_new" AS ENUM ('visitor', 'member');
ALTER TABLE "Person" ALTER COLUMN "level" DROP DEFAULT;
ALTER TABLE "Person" ALTER COLUMN "level" TYPE "Level_new" USING ("level"::text::"Level_new");
ALTER TYPE "Level" RENAME TO "Level_old";
ALTER TYPE "Level_new" RENAME TO "Level";
DROP TYPE "Level_old";
ALTER TABLE "Person" ALTER COLUMN "level" SET DEFAULT 'visitor';
COMMIT;

-- DropForeignKey
ALTER TABLE "Membership" DROP CONSTRAINT "Membership_teamId_fkey";

-- DropForeignKey
ALTER TABLE "Post" DROP CONSTRAINT "Post_writerId_fkey";

-- DropForeignKey
ALTER TABLE "_LabelToPost" DROP CONSTRAINT "_LabelToPost_A_fkey";

-- DropForeignKey
ALTER TABLE "_LabelToPost" DROP CONSTRAINT "_LabelToPost_B_fkey";

-- DropIndex
DROP INDEX "Person_level_idx";

-- DropIndex
DROP INDEX "team_names";

-- AlterTable
ALTER TABLE "Person" DROP COLUMN "scores",
DROP COLUMN "seen_at",
ALTER COLUMN "email" SET DATA TYPE VARCHAR(200),
ALTER COLUMN "note" SET NOT NULL,
ALTER COLUMN "note" SET DEFAULT '{"a": "it''s; x"}';

-- DropTable
DROP TABLE "Post";

-- DropTable
DROP TABLE "Label";

-- DropTable
DROP TABLE "_LabelToPost";

-- CreateIndex
CREATE INDEX "Person_level_email_idx" ON "Person"("level", "email");

-- AddForeignKey
ALTER TABLE "Membership" ADD CONSTRAINT "Membership_teamId_fkey" FOREIGN KEY ("teamId") REFERENCES "teams"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

