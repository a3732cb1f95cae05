# SPDX-License-Identifier: MIT
# Completion of tidegate(8) for bash. Objects, commands and options come from
# the program's own help, so that there is nothing here to keep in step.

# The values of a string member of compact JSON, a line each.
_tidegate_member()
{
	sed 's/[{,]/\n&/g' | sed -n 's/^[{,]"'"$1"'":"\([^"\\]*\)"$/\1/p; s/^[{,]"'"$1"'":"\([^"\\]*\)"[]}]*$/\1/p'
}

_tidegate_ask()
{
	tidegate "${opts[@]}" --timeout 1s -j "$@" 2>/dev/null
}

_tidegate()
{
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
	local opts=() words=() i w reply=
	COMPREPLY=()

	case $prev in
	-c | --config | -s | --socket | -f | --pins)
		compopt -o filenames 2>/dev/null
		mapfile -t COMPREPLY < <(compgen -f -- "$cur")
		return
		;;
	--reason | --for | --timeout | --claim)
		return
		;;
	esac
	# What was typed so far, without options; those that say whom to ask are kept.
	for ((i = 1; i < COMP_CWORD; i++)); do
		w=${COMP_WORDS[i]}
		case $w in
		-c | --config | -s | --socket | -f | --pins)
			opts+=("$w" "${COMP_WORDS[++i]}")
			;;
		--reason | --for | --timeout | --agent | --target | -d | --dir | --last | --rows | --speed | --format | --user | --cgroup | --pass-fd | --event | --fact | --claim)
			((i++))
			;;
		-*) ;;
		*) words+=("$w") ;;
		esac
	done

	case ${#words[@]}:$cur:$prev in
	*:--agent) reply=$(_tidegate_ask agent list | _tidegate_member name) ;;
	*:--target) reply=$(_tidegate_ask target list | _tidegate_member name) ;;
	0:-*)
		reply=$(_tidegate_ask help | sed 's/.*"options":\[\(.*\)\].*/\1/; s/[",]/ /g' |
			tr -s ' ' '\n' | sed -n 's/^[a-z]/--&/p')
		;;
	[1-9]*:-*)
		# The options in the help of the command.
		reply=$(_tidegate_ask "${words[0]}" help | sed 's/},{/\n/g' |
			grep "\"name\":\"${words[1]}" | grep -o -e '--[a-z][a-z-]*')
		;;
	0:*) reply=$(_tidegate_ask help | sed 's/"options".*//' | _tidegate_member name) ;;
	1:*)
		case ${words[0]} in
		batch)
			compopt -o filenames 2>/dev/null
			mapfile -t COMPREPLY < <(compgen -f -- "$cur")
			return
			;;
		help) reply=$(_tidegate_ask help | sed 's/"options".*//' | _tidegate_member name) ;;
		version) return ;;
		*) reply=$(_tidegate_ask "${words[0]}" help | _tidegate_member name)$'\nhelp' ;;
		esac
		;;
	*) _tidegate_names ;;
	esac
	mapfile -t COMPREPLY < <(compgen -W "$reply" -- "$cur")
}

# Sets reply to what can stand behind the object and the command.
_tidegate_names()
{
	case ${words[0]}:${words[1]}:${#words[@]} in
	target:set:3) reply='steer block observe off reset' ;;
	target:list:* | agent:list:* | session:list:* | dns:* | *:help:*) ;;
	target:*:2) reply=$(_tidegate_ask target list | _tidegate_member name) ;;
	agent:show:2 | agent:run:2) reply=$(_tidegate_ask agent list | _tidegate_member name) ;;
	session:*:2) reply=$(_tidegate_ask session list | _tidegate_member id) ;;
	approval:[!l]*:2) reply=$(_tidegate_ask approval list | _tidegate_member id) ;;
	grant:create:2 | policy:explain:2) reply=$(_tidegate_ask agent list | _tidegate_member name) ;;
	grant:create:3 | policy:explain:3) reply=$(_tidegate_ask target list | _tidegate_member name) ;;
	grant:[!l]*:2) reply=$(_tidegate_ask grant list | _tidegate_member id) ;;
	map:dump:2) reply=$(_tidegate_ask map list | _tidegate_member name) ;;
	recording:[!l]*:2) reply=$(_tidegate_ask recording list | _tidegate_member id) ;;
	policy:check:2 | policy:test:2)
		compopt -o filenames 2>/dev/null
		reply=$(compgen -f -- "$cur")
		;;
	esac
}

complete -F _tidegate tidegate
