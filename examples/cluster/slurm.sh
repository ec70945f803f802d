#!/usr/bin/env bash
# A search on four nodes of eight GPUs, a model on each GPU. Submit it with: sbatch slurm.sh
#
# It needs dots-mergekit[ray,vllm] on every node, and the checkpoints at the same paths. If its time
# is over or a node fails, submit it again: it goes on with the study that is there.
#SBATCH --job-name=dots-tune
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=04:00:00
set -euo pipefail

nodes=$SLURM_JOB_NUM_NODES
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)

# What the nodes know each other by, in the home folder that they share.
ray get-auth-token --generate >/dev/null

# Starts Ray on every node, runs the command on the first, and stops Ray when it has ended.
srun --nodes="$nodes" --ntasks="$nodes" \
  ray symmetric-run --address "$head:6379" --min-nodes "$nodes" -- \
  dots-tune --recipe recipe.yml --out study --backend vllm --ray-address auto
