#!/bin/bash
#SBATCH --job-name=teleport
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --gpus-per-node=4
#SBATCH --time=12:00:00
#SBATCH --signal=B:TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.out
#
# A sweep on the nodes of one Slurm job: Ray's head and the driver on the first, a worker on each of the others.
#
#   sbatch cluster/slurm.sh sweeps/quickstart.yaml --home /shared/runs --set resources='{cpu: 4, gpu: 0.25}'
#
# What follows the script's name goes to `teleport run`. Two minutes before its time is up the sweep is asked to stop;
# the job then queues again and goes on where it was: finished trials are never repeated, others go on from their
# checkpoints. `scancel JOB` ends it for good, `scancel --batch --signal=TERM JOB` lets it stop cleanly and queue again.
#
# Change: the #SBATCH lines above (or give them to sbatch), and how a node finds `teleport` and `ray`: export
# TELEPORT_VENV=/shared/teleport/.venv, or load your modules here. The home must lie where every node that may be the
# first sees it; data sets where all nodes do (`--data-root`, or `data.root` in the spec).
# TELEPORT_NODE_RESOURCES='{"trials": 4}' gives each node custom resources.
set -euo pipefail

if [[ -n ${TELEPORT_VENV:-} ]]; then
  source "$TELEPORT_VENV/bin/activate"
fi

# Not `hostname --ip-address`, which on many machines is 127.0.1.1.
head=$(python -c 'import ray.util; print(ray.util.get_node_ip_address())')
# Of their own for each job: nodes may be shared, and whoever has the token may run code as you.
port=$((20000 + SLURM_JOB_ID % 6000 * 2))
RAY_AUTH_TOKEN=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN
node=(
  "--num-cpus=${SLURM_CPUS_PER_TASK:-1}"
  "--num-gpus=${SLURM_GPUS_ON_NODE:-0}"
  "--resources=${TELEPORT_NODE_RESOURCES:-{\}}"
  --min-worker-port=0 --max-worker-port=0 --block
)
steps=()

leave() {
  # The steps are Ray's nodes. `ray stop` would end those of other jobs too.
  ((${#steps[@]} == 0)) || kill -TERM "${steps[@]}" 2>/dev/null || true
  wait
}
trap leave EXIT

srun --nodes=1 --ntasks=1 --nodelist="$SLURMD_NODENAME" --overlap \
  ray start --head --node-ip-address="$head" --port="$port" --ray-client-server-port=$((port + 1)) \
  --include-dashboard=false --temp-dir="/tmp/ray-$SLURM_JOB_ID" "${node[@]}" >&2 &
steps+=($!)
for ((attempt = 1; ; attempt++)); do
  ray health-check --address "$head:$port" >/dev/null 2>&1 && break
  if ((attempt == 60)) || ! kill -0 "${steps[0]}" 2>/dev/null; then
    echo "Ray's head did not start on $SLURMD_NODENAME" >&2
    exit 1
  fi
  sleep 1
done
others=$((SLURM_NNODES - 1))
if ((others > 0)); then
  srun --nodes="$others" --ntasks="$others" --exclude="$SLURMD_NODENAME" --overlap \
    ray start --address="$head:$port" "${node[@]}" >&2 &
  steps+=($!)
fi

teleport run "$@" --address "$head:$port" --wait-for-nodes 300 &
sweep=$!
num_asked=0
trap 'num_asked=$((num_asked + 1)); kill -TERM "$sweep" 2>/dev/null || true' TERM
# A signal ends `wait`, not what it waits for.
seen=-1
while ((seen != num_asked)); do
  seen=$num_asked
  status=0
  wait "$sweep" || status=$?
done
if ((num_asked > 0 && status == 130)); then
  echo "the sweep stopped in time; it goes on when the job runs again" >&2
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
