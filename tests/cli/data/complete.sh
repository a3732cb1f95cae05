# SPDX-License-Identifier: MIT
# What bash would offer behind the words given; the last may be empty.
#   complete.sh WORD...
. "$COMPLETION/tidegate.bash"
compopt() { :; }
COMP_WORDS=(tidegate "$@")
COMP_CWORD=$#
_tidegate
printf '%s\n' "${COMPREPLY[@]}" | sort
