#!/bin/bash
# Eight shards of a sweep on SLURM, as an array that goes on after preemption and after its time limit.
# `sbatch examples/slurm.sh` in a folder that the nodes share, which holds the images in `photos` and `plan.json`.
#SBATCH --job-name=intel-scenes
#SBATCH --array=1-8
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=8
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --signal=USR1@120
#SBATCH --open-mode=append
#SBATCH --output=intel-scenes-%a.log

status=0
srun --ntasks=1 intel-scenes train study=optimizers data=folder data.root=photos \
  sweep.plan_file=plan.json sweep.shard="$SLURM_ARRAY_TASK_ID/8" \
  hydra.sweep.dir="shard$SLURM_ARRAY_TASK_ID" || status=$?
# 138: stopped by SIGUSR1, two minutes before the time limit. A preempted job is requeued by SLURM itself.
if [ "$status" -eq 138 ]; then
  exec scontrol requeue "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"
fi
exit "$status"
