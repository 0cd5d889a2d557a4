#!/bin/sh
# Verifies tests/model/remote_free.pml and background.pml: every configuration must hold in all reachable states, every
# mutant must fail.
#
#   run.sh            everything (about three minutes, at most 2 GiB)
#   run.sh --quick    all but the four largest configurations
#   run.sh retire     the configurations and mutants with "retire" in their name
#
# One line each. Exit code: 0 all as expected, 1 a surprise, 77 spin is not installed.
set -u

here=$(cd "$(dirname "$0")" && pwd)
quick=
if [ "${1:-}" = --quick ]; then
	quick=1
	shift
fi
only=${1:-}
CC=${CC:-cc}

if ! command -v spin >/dev/null 2>&1; then
	echo "tests/model/run.sh: spin is not installed (Debian: apt-get install spin); the protocol was not checked" >&2
	exit 77
fi

work=$(mktemp -d "${TMPDIR:-/tmp}/hakmem-model.XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
cd "$work" || exit 1
cp "$here/remote_free.pml" "$here/background.pml" . || exit 1

passed=0
failed=0

surprise()
{
	failed=$((failed + 1))
	printf '%-26s SURPRISE: %s\n' "$1" "$2"
}

model=remote_free.pml

# check NAME holds|fails DEFINES...
check()
{
	name=$1 expected=$2
	shift 2
	case $name in *"$only"*) ;; *) return ;; esac
	case $quick$name in 1retire_3_blocks | 1everything | 1thieves | 1steal_2_slabs) return ;; esac

	# Spin's reduction is not promised to be sound for the escapes by which fork() kills threads.
	reduce=
	case " $* " in *" -DFORK "*) reduce=-DNOREDUCE ;; esac

	rm -f pan pan.*
	if ! spin -a "$@" "$model" >spin.out 2>&1 || grep -qi error spin.out || [ ! -f pan.c ]; then
		surprise "$name" "spin: $(head -n 1 spin.out)"
		return
	fi
	if ! $CC -O2 -w -DSAFETY -DCOLLAPSE -DMEMLIM=2000 -DVECTORSZ=512 $reduce -o pan pan.c >cc.out 2>&1; then
		surprise "$name" "$CC: $(head -n 1 cc.out)"
		return
	fi
	./pan -m100000 >pan.out 2>&1

	states=$(sed -n 's/^ *\([0-9.e+]*\) states, stored.*/\1/p' pan.out)
	transitions=$(sed -n 's/^ *\([0-9.e+]*\) transitions.*/\1/p' pan.out)
	depth=$(sed -n 's/.*depth reached \([0-9]*\),.*/\1/p' pan.out)
	errors=$(sed -n 's/.*errors: \([0-9]*\).*/\1/p' pan.out)
	found=$(sed -n 's/^pan:[0-9]*: \(.*\) (at depth.*/\1/p' pan.out | head -n 1)
	if [ -z "$states" ] || [ -z "$errors" ]; then
		surprise "$name" "pan: $(head -n 1 pan.out)"
		return
	fi
	line=$(printf '%-26s %10s states %10s transitions  depth %4s' "$name" "$states" "$transitions" "$depth")

	case $expected in
	holds)
		if [ "$errors" != 0 ]; then
			surprise "$name" "$found"
			spin -t -p -g "$@" "$model" 2>/dev/null | tail -n 60
		elif grep -q -e 'Search not completed' -e 'max search depth too small' -e 'MEMLIM bound' pan.out; then
			surprise "$name" "the search was cut short"
		else
			passed=$((passed + 1))
			echo "$line  holds"
		fi
		;;
	fails)
		case $found in
		"assertion violated"* | "invalid end state"*)
			passed=$((passed + 1))
			echo "$line  fails as it must: $found"
			;;
		*) surprise "$name" "the model does not notice this bug" ;;
		esac
		;;
	esac
}

retire="-DALLOC -DLOCAL -DHEAPS=2 -DTHREADS=2 -DPRODUCERS=2 -DSLABS=1 -DBLOCKS=2 -DOPS=3"
stack="-DALLOC -DHEAPS=1 -DTHREADS=1 -DPRODUCERS=2 -DSLABS=2 -DBLOCKS=2 -DOPS=4"
steal="-DSTEAL -DALLOC -DHEAPS=2 -DPARKED_FIRST=1 -DTHREADS=1 -DPRODUCERS=2 -DSLABS=1 -DBLOCKS=2 -DATTACHED=1 -DOPS=3"
thieves="-DSTEAL -DALLOC -DHEAPS=3 -DPARKED_FIRST=2 -DTHREADS=2 -DPRODUCERS=2 -DSLABS=1 -DBLOCKS=2 -DATTACHED=1 -DOPS=2"
adopt="-DPARK -DSTEAL -DLOCAL -DHEAPS=2 -DTHREADS=2 -DPRODUCERS=1 -DSLABS=1 -DBLOCKS=2 -DATTACHED=1 -DOPS=3"
harvest="-DHARVEST -DPEEK -DALLOC -DHEAPS=2 -DTHREADS=2 -DPRODUCERS=2 -DSLABS=1 -DBLOCKS=2 -DOPS=2"
fork="-DFORK -DALLOC -DHEAPS=2 -DTHREADS=1 -DPRODUCERS=1 -DSLABS=2 -DBLOCKS=2 -DATTACHED=2 -DOPS=2"
fork_steal="-DFORK -DALLOC -DSTEAL -DHEAPS=3 -DPARKED_FIRST=2 -DTHREADS=1 -DPRODUCERS=1 -DSLABS=1 -DBLOCKS=2 -DATTACHED=1 -DOPS=2"

# One slab goes from heap to heap through the arena while producers of its earlier lives are still between R1 and R4.
check retire holds $retire
check retire_3_blocks holds -DALLOC -DHEAPS=2 -DTHREADS=2 -DPRODUCERS=2 -DSLABS=1 -DBLOCKS=3 -DOPS=3
check retire_3_producers holds -DALLOC -DHEAPS=2 -DTHREADS=2 -DPRODUCERS=3 -DSLABS=1 -DBLOCKS=2 -DOPS=2
check retire_2_words holds $retire -DWORDS=2
# A word of two blocks beside another word; two words whose bit in the news is the same.
check retire_shared_word holds -DALLOC -DLOCAL -DHEAPS=2 -DTHREADS=2 -DPRODUCERS=2 -DSLABS=1 -DBLOCKS=3 -DWORDS=2 -DOPS=2
check retire_shared_bit holds $retire -DWORDS=2 -DNEWS_LAST=0
# Two slabs meet on one stack.
check stack holds $stack
check stack_2_words holds $stack -DWORDS=2
# A drain leaves a part for the next one, and of a slab some of the words.
check some holds $stack -DSOME
check some_2_words holds $stack -DSOME -DWORDS=2
check some_retire holds $retire -DSOME -DWORDS=2
check some_steal holds $steal -DSOME -DWORDS=2
check some_fork holds $fork -DSOME -DWORDS=2
# Heaps change threads, and slabs heaps.
check adopt holds -DALLOC $adopt
check adopt_2_words holds -DALLOC $adopt -DWORDS=2
check steal holds $steal
check steal_2_words holds $steal -DWORDS=2
check steal_3_words holds -DSTEAL -DALLOC -DHEAPS=2 -DPARKED_FIRST=1 -DTHREADS=1 -DPRODUCERS=2 -DSLABS=1 -DBLOCKS=3 -DWORDS=3 -DNEWS_LAST=1 -DATTACHED=1 -DOPS=3
check steal_2_slabs holds -DSTEAL -DHEAPS=2 -DPARKED_FIRST=1 -DTHREADS=1 -DPRODUCERS=2 -DSLABS=2 -DBLOCKS=2 -DATTACHED=2 -DOPS=2
check thieves holds $thieves
# Anyone may drain a silent heap, and whoever has the lock may collect without having the token.
check harvest holds $harvest
check harvest_2_words holds $harvest -DWORDS=2
check everything holds -DALLOC -DLOCAL -DPARK -DSTEAL -DHARVEST -DPEEK -DHEAPS=2 -DTHREADS=2 -DPRODUCERS=1 -DSLABS=1 -DBLOCKS=2 -DATTACHED=1 -DOPS=3
# The child of a fork.
check fork holds $fork
check fork_2_words holds $fork -DWORDS=2
check fork_new_slab holds -DFORK -DALLOC -DLOCAL -DHEAPS=2 -DTHREADS=1 -DPRODUCERS=1 -DSLABS=2 -DBLOCKS=2 -DATTACHED=1 -DOPS=2
check fork_2_producers holds -DFORK -DALLOC -DHEAPS=2 -DTHREADS=1 -DPRODUCERS=2 -DSLABS=1 -DBLOCKS=2 -DWORDS=2 -DATTACHED=1 -DOPS=2
check fork_free_first holds $fork -DFREE_FIRST
check fork_steal holds $fork_steal
check fork_steal_2_words holds $fork_steal -DWORDS=2

# In the order of the program a plain load for the own bit does no harm; the mutants plain_load and r2_relaxed perform
# the operations in the order that a processor could choose then. This line pins down where the limit of this model lies.
check plain_load_in_order holds $retire -DPLAIN_LOAD_IN_ORDER
# The news that ATTACH drops is not always empty, only the words it names are.
check claim_no_stray_news fails $retire -DCLAIM_NO_STRAY_NEWS

check mutant_plain_load fails $retire -DMUTANT_PLAIN_LOAD
check mutant_plain_load_any fails $retire -DWORDS=2 -DMUTANT_PLAIN_LOAD_ANY
check mutant_r2_relaxed fails $retire -DMUTANT_R2_RELAXED
check mutant_rearm_after_look fails $retire -DMUTANT_REARM_AFTER_LOOK
check mutant_news_bit_forgotten fails $retire -DWORDS=2 -DMUTANT_NEWS_BIT_FORGOTTEN
check mutant_news_last_alone fails $retire -DWORDS=2 -DNEWS_LAST=0 -DMUTANT_NEWS_LAST_ALONE
check mutant_news_before_rearm fails $retire -DWORDS=2 -DMUTANT_NEWS_BEFORE_REARM
check mutant_rnext_after_rearm fails $stack -DMUTANT_RNEXT_AFTER_REARM
check mutant_some_keeps_rest fails $stack -DSOME -DMUTANT_SOME_KEEPS_REST
check mutant_drain_forgets_rest fails $stack -DSOME -DMUTANT_DRAIN_FORGETS_REST
check mutant_fork_keeps_rest fails $fork -DSOME -DMUTANT_FORK_KEEPS_REST
check mutant_some_takes_all_news fails $retire -DSOME -DWORDS=2 -DMUTANT_SOME_TAKES_ALL_NEWS
check mutant_retire_no_cas fails $retire -DMUTANT_RETIRE_NO_CAS
check mutant_attach_arm_first fails $retire -DMUTANT_ATTACH_ARM_FIRST
check mutant_steal_no_token fails $steal -DMUTANT_STEAL_NO_TOKEN
check mutant_steal_no_look fails $steal -DMUTANT_STEAL_NO_LOOK
check mutant_steal_news_early fails $steal -DMUTANT_STEAL_NEWS_EARLY
check mutant_steal_rearm_first fails $steal -DMUTANT_STEAL_REARM_FIRST
check mutant_steal_no_recheck fails $thieves -DMUTANT_STEAL_NO_RECHECK
check mutant_steal_early_release fails $adopt -DMUTANT_STEAL_EARLY_RELEASE
check mutant_steal_attached fails $adopt -DMUTANT_STEAL_ATTACHED
check mutant_adopt_no_lock fails $adopt -DMUTANT_ADOPT_NO_LOCK
check mutant_fork_no_rearm fails $fork -DMUTANT_FORK_NO_REARM
check mutant_fork_news_only fails $fork -DMUTANT_FORK_LOOKS_AT_NEWS_ONLY
check mutant_fork_late fails $fork -DMUTANT_FORK_LATE
check mutant_fork_by_owner fails $fork -DMUTANT_FORK_BY_OWNER
check mutant_fork_trust_locked fails $fork_steal -DMUTANT_FORK_TRUST_LOCKED

# The background thread: how it falls asleep and is woken.
model=background.pml

check background holds
check background_2_frees holds -DOPS=2
check background_2_threads holds -DTHREADS=2
check background_locked holds -DLOCKED
check background_spurious holds -DSPURIOUS
check background_refused holds -DREFUSED
check background_stop holds -DSTOP
check background_fork holds -DFORK

check mutant_background_no_looks fails -DMUTANT_NO_LOOKS
check mutant_background_looks_by_number fails -DTHREADS=2 -DMUTANT_LOOKS_BY_NUMBER
check mutant_background_announced_late fails -DMUTANT_ANNOUNCED_WHEN_IT_SLEEPS
check mutant_background_floor_forgotten fails -DDECAY=3 -DMUTANT_FLOOR_FORGOTTEN
check mutant_background_never_stuck fails -DLOCKED -DMUTANT_NEVER_STUCK
check mutant_background_moved_stays fails -DMUTANT_MOVED_STAYS
check mutant_background_no_compare fails -DMUTANT_WAIT_WITHOUT_COMPARE
check mutant_background_w2_first fails -DMUTANT_W2_FIRST
check mutant_background_no_kernel fails -DMUTANT_WAKE_WITHOUT_KERNEL
check mutant_background_all_wake fails -DTHREADS=2 -DMUTANT_EVERYBODY_WAKES
check mutant_background_wake_by_store fails -DSTOP -DMUTANT_WAKE_BY_STORE
check mutant_background_announce_by_store fails -DSTOP -DMUTANT_ANNOUNCE_BY_STORE
check mutant_background_back_by_store fails -DSTOP -DMUTANT_BACK_BY_STORE
check mutant_background_stop_no_wake fails -DSTOP -DMUTANT_STOP_WITHOUT_WAKE
check mutant_background_refused_keeps_state fails -DREFUSED -DMUTANT_REFUSED_KEEPS_STATE
check mutant_background_fork_keeps_state fails -DFORK -DMUTANT_FORK_KEEPS_STATE
check mutant_background_fork_in_a_look fails -DFORK -DMUTANT_LOOK_WITHOUT_TICK

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
