#!/bin/sh
# prepare_data.py with the right Python: $PYTHON, the one of `run.py` beside LoraModel/, RVC's virtual environment, or the one on PATH.
#   scripts/prepare_data.sh RECORDINGS OUTPUT [options]      for --input_dir RECORDINGS --output_dir OUTPUT
#   scripts/prepare_data.sh --input_dir RECORDINGS --output_dir OUTPUT [options]
here=$(cd "$(dirname "$0")" && pwd) || exit 2
for python in "$PYTHON" "$here/../../.venv/bin/python" "$here/../../venv/bin/python" python3 python; do
    if [ -n "$python" ] && command -v "$python" >/dev/null 2>&1; then
        case "${1:--}" in
            -*) exec "$python" "$here/prepare_data.py" "$@" ;;
        esac
        case "${2:--}" in
            -*) input=$1; shift; exec "$python" "$here/prepare_data.py" --input_dir "$input" "$@" ;;
        esac
        input=$1; output=$2; shift 2
        exec "$python" "$here/prepare_data.py" --input_dir "$input" --output_dir "$output" "$@"
    fi
done
echo "error: no Python was found: install Python 3.11, or name one in the variable PYTHON" >&2
exit 2
