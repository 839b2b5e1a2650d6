#!/bin/bash
# Two lines start it, on a node with eight GPUs:
#   export HF_TOKEN=...
#   nohup bash eight-gpus.sh > eight-gpus.log 2>&1 &
#
# One process for each GPU, each with a copy of the model. A model that fits on no single GPU is studied by one process over all of
# them, as the last line says. Stopped, it goes on where it was when it is started again.
set -euo pipefail

bizzaroworld plan --model google/gemma-3-12b-it --pairs 2000 --gpus 8
bizzaroworld study --model google/gemma-3-12b-it google/gemma-2b --battery mine.csv --device cuda --workers 8 --results results
bizzaroworld report --results results --site _site
# bizzaroworld study --model google/gemma-3-27b-it --battery mine.csv --device split --results results
