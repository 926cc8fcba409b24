-- As made by: @prisma/schema-engine-wasm@8.1.0-2.59be4fda, its diff() of two schemas
-- DropForeignKey
ALTER TABLE "Membership" DROP CONSTRAINT "Membership_personId_fkey";

-- DropForeignKey
ALTER TABLE "Membership" DROP CONSTRAINT "Membership_teamId_fkey";

-- DropTable
DROP TABLE "Person";

-- DropTable
DROP TABLE "teams";

-- DropTable
DROP TABLE "Membership";

-- DropEnum
DROP TYPE "Level";

