"""The commands of `eifer`, one file per area; thin over workflows/."""
