#!/bin/sh
# Makes the demo model from the books: sh train.sh TEXT_DIR WORK_DIR MODEL.gguf
#
# Two large teachers learn side by side; the small model then learns the mean of their predictions,
# which on a text this small leaves it better than either teacher and better than the text alone
# does.
set -eu
text=$1 work=$2 gguf=$3
here=$(cd "$(dirname "$0")" && pwd)
export PYTHONDONTWRITEBYTECODE=1

python3 "$here/prepare.py" --text "$text" --work "$work"
python3 "$here/tokenizer.py" --work "$work" --vocab 4000

teach() {
    python3 "$here/train.py" --work "$work" --out "$work/teacher-$1.pt" --seed "$1" \
        --dim 512 --layers 8 --heads 16 --kv-heads 8 --ffn 1408 \
        --epochs 20 --lr 2e-3 --weight-decay 2 --dropout 0.3 >"$work/teacher-$1.log"
}
teach 2 & first=$!
teach 3 & second=$!
wait $first
wait $second
cat "$work"/teacher-*.log

python3 "$here/train.py" --work "$work" --out "$work/student.pt" --seed 1 \
    --dim 256 --layers 7 --heads 8 --kv-heads 4 --ffn 736 \
    --epochs 30 --lr 3e-3 --weight-decay 1 --dropout 0.05 \
    --teacher "$work/teacher-2.pt" "$work/teacher-3.pt" --teacher-share 0.9
python3 "$here/gguf.py" --work "$work" --model "$work/student.pt" --name weir-tales-6m --out "$gguf"
