#!/bin/sh
program=/usr/libexec/stopguard-hook
thin=$program-thin

# To be installed as /etc/libvirt/hooks/qemu.d/50-stopguard. It stands between libvirt and
# the program, for what a program cannot say itself: that it is missing, broken or was killed.
# A broken guard must harm no other operation (a failing reconnect kills a running guest), so
# those end here, before anything that can fail.
case ${2-} in stop | release) ;; *) exit 0 ;; esac

# Whatever the environment brings: options and functions that bash takes from it, a PATH
# without printf for shells that have none built in.
set +eux
unset -f printf read test
unset IFS
trap '' PIPE
LC_ALL=C
PATH=${PATH:+$PATH:}/usr/bin:/bin

# A user's own session daemon runs this file too, and its domains are not ours to guard. /proc
# is root's. Who does not own it is judged by the loop, which reads what id -u would have to be
# started for; where it cannot, we go on.
test -O /proc || while read -r key _ euid _; do
	case $key in Uid:) test "$euid" = 0 || exit 0 ;; esac
done 2>/dev/null </proc/self/status

# A domain's name is printed only if it can neither imitate our text nor upset a terminal.
plain() {
	case $1 in '' | *[!A-Za-z0-9_.,/@+=-]*) return 1 ;; esac
	test ${#1} -le 200
}

fault() {
	test "$2" = stop || exit 0
	name='(a name that cannot be printed here)' hook='this hook file'
	if plain "$1"; then name=$1; fi
	if plain "$0"; then hook=$0; fi
	printf 'stopguard: fault: %s: %s; to switch the guard off: chmod -x %s\n' "$name" "$what" "$hook" >&2
	exit 2
}

runs() { test -f "$1" && test -s "$1" && test -x "$1"; }

# The thin program starts in a quarter of the time. It is for what it can settle, by asking the
# agent or because the domain's process is gone, and hands anything else over to the other one.
# Either gives the right answer to every call, so what is looked at here is only about speed.
if runs "$thin"; then
	run=${STOPGUARD_ROOT-}/run pid=
	if test -S "$run/stopguard/agent.sock"; then
		program=$thin
	elif test "$2" = stop; then
		file=$run/libvirt/qemu/$1.pid
		if test -f "$file"; then { read -r pid <"$file"; } 2>/dev/null; fi
		# A process that is gone or a zombie has no exe any more.
		test -e "/proc/$pid/exe" || program=$thin
	fi
fi

what="$program is missing, empty or not executable; install it again"
runs "$program" || fault "$@"

# Its stderr is held until its exit status is known: a shell's, a loader's or a runtime's
# own message would come out as the reason of a refused stop.
code=0
{ line=$(STOPGUARD_HOOK=$0 "$program" "$@" 2>&1 >/dev/null) || code=$?; } 2>/dev/null
test "$2" = stop || exit 0
what="$program ended with status $code instead of an answer; try again, and if it stays so install it again"
case $code in
0)
	# A status of 0 is not enough. Some shells run what the kernel cannot as a script of theirs: a
	# file that a crash filled with zeros would allow every stop.
	case "
$line" in *"
stopguard: allow") exit 0 ;; esac
	what="$program ended with status 0 but did not say that it allows the stop; install it again" && fault "$@"
	;;
1)
	# Any program that fails may end with 1. Only the line of a veto is one, cure and record included.
	case "
$line" in *"
stopguard: veto: "*) ;; *)
		what="$program ended with status 1 but without the line of a veto; end with 2 if it failed, or report this as a bug" && fault "$@" ;;
	esac
	;;
2) case $line in 'stopguard: fault: '*) ;; *) fault "$@" ;; esac ;;
126 | 127) what="$program cannot be started (status $code); install it again" && fault "$@" ;;
134) what="$program crashed (status 134), perhaps out of memory; look for a rule that builds something huge" && fault "$@" ;;
137) what="$program was killed (status 137), perhaps after 3 s; try again, and look at the host's load and memory" && fault "$@" ;;
*) fault "$@" ;;
esac
printf '%s\n' "$line" >&2
exit "$code"
