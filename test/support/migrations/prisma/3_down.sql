-- As made by: @prisma/schema-engine-wasm@8.1.0-2.59be4fda, its diff() of two schemas
-- AlterEnum
ALTER TYPE "Level" ADD VALUE 'owner';

-- DropIndex
DROP INDEX "Post_writerId_key";

-- AlterTable
ALTER TABLE "Person" ADD COLUMN     "note" JSONB,
ADD COLUMN     "scores" DECIMAL(10,2)[],
ADD COLUMN     "seen_at" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
ALTER COLUMN "level" SET NOT NULL,
ALTER COLUMN "level" SET DEFAULT 'visitor';

-- AlterTable
ALTER TABLE "Post" ADD COLUMN     "tags" TEXT[] DEFAULT ARRAY['new']::TEXT[],
ALTER COLUMN "text" SET DATA TYPE TEXT;

-- AlterTable
ALTER TABLE "Label" DROP COLUMN "color";

-- CreateTable
CREATE TABLE "teams" (
    "id" UUID NOT NULL DEFAULT gen_random_uuid(),
    "name" TEXT NOT NULL,

    CONSTRAINT "teams_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "Membership" (
    "personId" INTEGER NOT NULL,
    "teamId" UUID NOT NULL,
    "since" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "Membership_pkey" PRIMARY KEY ("personId","teamId")
);

-- CreateIndex
CREATE UNIQUE INDEX "team_names" ON "teams"("name");

-- CreateIndex
CREATE INDEX "Person_level_idx" ON "Person"("level");

-- CreateIndex
CREATE INDEX "Post_tags_idx" ON "Post" USING GIN ("tags");

-- AddForeignKey
ALTER TABLE "Membership" ADD CONSTRAINT "Membership_personId_fkey" FOREIGN KEY ("personId") REFERENCES "Person"("id") ON DELETE CASCADE ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "Membership" ADD CONSTRAINT "Membership_teamId_fkey" FOREIGN KEY ("teamId") REFERENCES "teams"("id") ON DELETE SET NULL ON UPDATE NO ACTION;

