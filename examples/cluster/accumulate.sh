#!/bin/bash
#SBATCH --cpus-per-task=1 --mem=2G
set -euo pipefail
mld-ff accumulate "$@" --part "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT" -o "shards/$SLURM_ARRAY_TASK_ID.npz"
