#!/usr/bin/env bash
# Makes .venv with everything distwm needs; run again, it does nothing that is done already.
#   ./install.sh            to train          ./install.sh dev     to run the tests as well
#   PYTHON=... VENV=...     another interpreter, another place
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
extras=${1:+[$1]}
venv=${VENV:-.venv}
python=${PYTHON:-$(command -v python3.11 || command -v python3)}

packages=()
ldconfig -p | grep -q libOSMesa.so || packages+=(libosmesa6) # MuJoCo's software renderer
"$python" -c 'import ensurepip, venv' 2>/dev/null || packages+=(python3-venv)
if [[ $extras == "[dev]" ]]; then # parts of the tests: a Redis with TLS, and clocks that jump
    command -v redis-server redis-check-rdb >/dev/null || packages+=(redis-tools)
    compgen -G '/usr/lib/*/faketime/libfaketimeMT.so.1' >/dev/null || packages+=(faketime)
fi
if ((${#packages[@]})); then
    install="apt-get install -y --no-install-recommends ${packages[*]}"
    if ((EUID != 0)) && ! command -v sudo >/dev/null; then
        echo "install.sh: needs ${packages[*]}. Mend: as root, run: apt-get update && $install" >&2
        exit 3
    fi
    sudo=$( ((EUID == 0)) || echo sudo)
    $sudo apt-get update -q && $sudo $install
fi

# The stamp says what is installed; a change of the project's requirements makes it out of date.
stamp="$venv/.distwm$extras-$(cat pyproject.toml constraints.txt | sha256sum | cut -c1-12)"
if [[ ! -e $stamp ]]; then
    [[ -x $venv/bin/python ]] || "$python" -m venv "$venv"
    "$venv/bin/python" -m pip install --disable-pip-version-check -q -c constraints.txt -e ".$extras"
    # The tests of LPIPS read its heads. Alone: its requirements bring torchvision, which distwm never imports.
    [[ $extras != "[dev]" ]] || "$venv/bin/python" -m pip install --disable-pip-version-check -q --no-deps -c constraints.txt lpips
    touch "$stamp"
fi
