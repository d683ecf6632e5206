#!/bin/sh
# The page on the demo's base, without RVC. The first start installs what is needed into .venv; later ones open the page at once.
#   ./start.sh [options of run.py app]            ./start.sh demo            ./start.sh test
cd "$(dirname "$0")" || exit 2
case "${1:-}" in
    demo | test | app) ;;
    *) set -- app "$@" ;;
esac
for python in "$PYTHON" python3.11 python3 python; do
    if [ -n "$python" ] && command -v "$python" >/dev/null 2>&1; then
        exec "$python" run.py "$@"
    fi
done
echo "error: Python was not found: install Python 3.11, or name one in the variable PYTHON" >&2
exit 2
