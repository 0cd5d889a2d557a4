/* The life of a slab under remote frees: a model for spin (https://spinroot.com), run by run.sh.
 *
 * Read docs/concurrency.md first; the labels are its labels. Each is one C function:
 *
 *   R1..R4   remote_deliver()  a thread that is not the owner hands freed blocks back, without a lock
 *   D1..D4   heap_drain()      whoever holds the heap's lock collects what was handed back, all of it or (SOME) a part
 *   RETIRE   heap_retire_slab() an empty slab goes back to the arena
 *   ATTACH   slab_attach()     a heap takes a slab from the arena
 *   STEAL    heap_steal()      a slab of a parked heap moves to the thief's heap
 *   FORK     fork_recover()    the child of fork() repairs the heaps of threads that it does not have
 *
 * WHAT IS A STEP. One atomic operation of the C code is one step, and so is each write to a word that other threads
 * read without a lock (owner, map word, rnext). Data that only the lock's holder reads (free map, list membership)
 * changes together with a neighbouring step: nobody can look in between, and an assertion demands the lock. Memory is
 * sequentially consistent here; what that leaves out is covered by orders.cpp and by the argument in the document.
 * Some mutants below therefore perform two steps in the order that a missing acquire or release would permit.
 *
 * GHOSTS are variables that the C code does not have; nothing branches on them:
 *
 *   tok[s]   who holds the slab's token: 0 nobody, the arena, a process, a stack or what is left of it
 *   virgin   slabs that no heap ever had: their token is with the arena, though news == 0
 *   live[s]  blocks the program holds: a bit is set by malloc and cleared by the free that counts
 *   mail[s]  those of them that somebody may free next
 *   mag[s]   freed by the owner, in its magazine, not yet in the free map
 *
 * WHAT IS CHECKED, in every reachable state:
 *   - news != 0 if and only if the token has exactly one holder (virgin slabs apart); only it writes rnext, owner, map
 *     word, and pushes; so no slab is on two stacks, or twice on one, and nothing that lies in the arena is ever pushed
 *   - HELD is found by who steals or attaches, never by a drain; the words that an attaching heap drops have no bits
 *   - a slab found on a heap's stack belongs to that heap
 *   - free maps, lists and state are touched under the owner's lock only
 *   - no block is handed out twice, none is freed into a slab that is not in use
 *   - no deadlock
 *   and when all threads have come to rest and every heap was drained once:
 *   - no remote bit is left, every block is in a free map, and (stronger) every empty slab is back in the arena
 *
 * CONFIGURATION by -D; run.sh has the list. Sizes: HEAPS (1..3), SLABS (1..2), BLOCKS, WORDS, THREADS, PRODUCERS, OPS
 * (steps that each thread may take). Features: ALLOC (refill and attach), LOCAL (frees in threads with a heap), PARK
 * (and adopt), STEAL, HARVEST (drain another's heap), PEEK (D3 without the token), SOME (drain a part), FORK, FREE_FIRST (in the child,
 * before it has recovered). Bugs: MUTANT_x. A plain load in R2 that keeps its place: PLAIN_LOAD_IN_ORDER. A claim that
 * is false: CLAIM_NO_STRAY_NEWS. */

#ifndef HEAPS
#define HEAPS 2
#endif
#ifndef SLABS
#define SLABS 1
#endif
#ifndef BLOCKS
#define BLOCKS 2
#endif
#ifndef WORDS
#define WORDS 1 /* words in a slab's remote bitmap; a block each, the last has the rest */
#endif
#ifndef NEWS_LAST
#define NEWS_LAST (WORDS - 1) /* this bit of the news stands for its word and all that follow: 62 in C */
#endif
#ifndef THREADS
#define THREADS 2 /* thread i starts with heap i */
#endif
#ifndef PRODUCERS
#define PRODUCERS 2 /* threads that free only, and have no heap */
#endif
#ifndef OPS
#define OPS 3
#endif
#ifndef ATTACHED
#define ATTACHED 0 /* slabs 0..ATTACHED-1 start in use, all their blocks with the program; the others in the arena */
#endif
#ifndef PARKED_FIRST
#define PARKED_FIRST HEAPS /* heaps from this one on start parked, and it has those slabs; else heap 0 (FORK: each) */
#endif

#define ALL ((1 << BLOCKS) - 1)
#define BIT(s) (1 << (s))
#define LOWEST(m) ((m) & -(m))
#define MANY(m) (((m) & ((m) - 1)) != 0)
#define WORD(w) ((w) < WORDS - 1 -> (1 << (w)) : (ALL & ~((1 << (WORDS - 1)) - 1)))

#define NEWS_OF(w) (1 << ((w) < NEWS_LAST -> (w) : NEWS_LAST))
#define NEWS_HELD 128
#define NEWS_ALL 127
/* What R2 adds to the news, and which words D3 looks at. */
#ifdef MUTANT_NEWS_BIT_FORGOTTEN
#define NEWS_SET(w) 1
#else
#define NEWS_SET(w) NEWS_OF(w)
#endif
#ifdef MUTANT_NEWS_LAST_ALONE
#define NAMED(w) ((w) <= NEWS_LAST && (dn & NEWS_OF(w)) != 0)
#else
#define NAMED(w) ((dn & NEWS_OF(w)) != 0)
#endif

#define NOBODY 0
#define ARENA 1
#define STACK(h) (2 + (h))
#define DEAD 15 /* a thread that the child of fork() does not have */
#define PROCESS(p) (16 + (p))
#define ME PROCESS(_pid)

/* Shared words. Slabs and heaps are named by index + 1 where 0 means none. */
byte news[SLABS]; /* 0: armed */
byte owner[SLABS];
byte map[SLABS];
byte rnext[SLABS];
byte rem[SLABS];
byte rstack[HEAPS];
byte rest[HEAPS]; /* what a drain of h has left of the stack; under its lock, so that no other process has to see it */
byte lock[HEAPS]; /* 0 free, else holder's pid + 1 */
byte arena_free;  /* bit per slab */

/* Guarded by the lock of the owner. */
byte fre[SLABS];
byte listed[SLABS]; /* heap in whose lists the slab is */
bit parked[HEAPS];

/* Ghosts. */
byte tok[SLABS];
byte live[SLABS];
byte mail[SLABS];
byte mag[SLABS];
byte virgin; /* bit per slab */

byte threads_done;
byte producers_done;
bit forked;
byte buried;
byte written_off; /* bit per heap */

inline acquire(h) { atomic { lock[h] == 0 -> lock[h] = _pid + 1 } }
inline try_acquire(h, got)
{
	d_step {
		if
		:: lock[h] == 0 -> lock[h] = _pid + 1; got = 1
		:: else -> got = 0
		fi
	}
}
inline release(h) { d_step { assert(lock[h] == _pid + 1); lock[h] = 0 } }

/* Every process declares these: an inline has no variables of its own. They are put back to 0 after use, or states
 * would differ in nothing but litter. */
#define LOCALS \
	byte dl, ds, dw, dn, dg, gi, gn; bit some, came; /* drain */ \
	bit retired; \
	bit ours; byte rh, rhead, rw; bit pushed; /* remote */ \
	byte x; bit got, won; /* steal */ \
	byte s, m, w, my, ops

/* ---- R ---- */

inline remote_r1(sl, mask)
{
	d_step {
		/* R1 */
		assert((rem[sl] & mask & WORD(rw)) == 0); /* else: double free */
		assert((live[sl] & mask & WORD(rw)) == (mask & WORD(rw)));
		rem[sl] = rem[sl] | (mask & WORD(rw));
		live[sl] = live[sl] & ~(mask & WORD(rw))
	}
}

inline remote_r2(sl)
{
	d_step {
		/* R2 */
		if
		:: news[sl] == 0 -> assert(tok[sl] == NOBODY); tok[sl] = ME; ours = 1
		:: else -> assert(tok[sl] != NOBODY); ours = 0
		fi;
		news[sl] = news[sl] | NEWS_SET(rw)
	}
}

/* "Our word is in the news already, or anything at all: somebody will look." */
#ifdef MUTANT_PLAIN_LOAD_ANY
#define REMOTE_LOOK(sl) ours = news[sl] == 0
#else
#define REMOTE_LOOK(sl) ours = (news[sl] & NEWS_OF(rw)) == 0
#endif

/* Those of the blocks that are in word `rw`. */
inline remote_word(sl, mask)
{
#ifdef MUTANT_PLAIN_LOAD
	/* A plain load before the fetch_or is not ordered after R1: the processor may have done it first. */
	REMOTE_LOOK(sl);
	remote_r1(sl, mask);
	if
	:: ours -> remote_r2(sl)
	:: else
	fi;
#else
#ifdef MUTANT_R2_RELAXED
	/* A fetch_or without release may overtake R1. */
	remote_r2(sl);
	remote_r1(sl, mask);
#else
	remote_r1(sl, mask);
#if defined(PLAIN_LOAD_IN_ORDER) || defined(MUTANT_PLAIN_LOAD_ANY)
	REMOTE_LOOK(sl);
	if
	:: ours -> remote_r2(sl)
	:: else
	fi;
#else
	remote_r2(sl);
#endif
#endif
#endif
	if
	:: ours ->
		rh = owner[sl]; /* R3 */
		pushed = 0;
		do
		:: !pushed ->
			rhead = rstack[rh - 1];
			d_step {
				assert(tok[sl] == ME);
				rnext[sl] = rhead
			}
			d_step {
				/* R4 */
				if
				:: rstack[rh - 1] == rhead ->
					assert(tok[sl] == ME);
					assert((arena_free & BIT(sl)) == 0);
					assert(owner[sl] == rh);
					rstack[rh - 1] = sl + 1;
					tok[sl] = STACK(rh - 1);
					pushed = 1
				:: else
				fi
			}
		:: else -> break
		od
	:: else
	fi;
	atomic { ours = 0; rh = 0; rhead = 0; pushed = 0; rw++ }
}

/* In C one call is one word; who has freed in two delivers twice. */
inline remote_deliver(sl, mask)
{
	do
	:: rw < WORDS && (mask & WORD(rw)) != 0 -> remote_word(sl, mask)
	:: rw < WORDS && (mask & WORD(rw)) == 0 -> rw++
	:: else -> break
	od;
	rw = 0
}

/* ---- RETIRE, ATTACH ---- */

/* Under h's lock; the slab's free map is full. */
inline retire(sl, h)
{
	d_step {
		assert(lock[h] == _pid + 1 && listed[sl] == h + 1 && owner[sl] == h + 1);
		assert(fre[sl] == ALL);
#ifdef MUTANT_RETIRE_NO_CAS
		news[sl] = NEWS_HELD; tok[sl] = ME; retired = 1; listed[sl] = 0
#else
		if
		:: news[sl] == 0 ->
			assert(tok[sl] == NOBODY);
			news[sl] = NEWS_HELD;
			tok[sl] = ME;
			listed[sl] = 0;
			retired = 1
		:: else -> retired = 0 /* a notice is under way: the drain that gets it will be here again */
		fi
#endif
	}
	if
	:: retired ->
		d_step { assert(tok[sl] == ME); map[sl] = 0 }
		d_step {
			/* owner keeps its stale value, as in C */
			assert(tok[sl] == ME && (news[sl] & NEWS_HELD) != 0);
			assert(rem[sl] == 0 && live[sl] == 0 && mag[sl] == 0);
			assert((arena_free & BIT(sl)) == 0);
			tok[sl] = ARENA;
			arena_free = arena_free | BIT(sl);
			retired = 0
		}
	:: else
	fi
}

/* exchange(news, 0). What it found names the words to look at: `dn`. held: 0 in D2, else NEWS_HELD. */
inline arm(sl, held)
{
	d_step {
		assert(tok[sl] == ME);
		assert(news[sl] != 0 && (news[sl] & NEWS_HELD) == held);
		dn = news[sl] & ~NEWS_HELD;
		news[sl] = 0;
		tok[sl] = NOBODY
	}
}

/* The same when attaching: what it finds is dropped. Stray bits are there, of producers whose blocks were collected
 * before they came to R2; the words they name are empty. */
inline arm_attached(sl)
{
	d_step {
		assert(tok[sl] == ME);
		assert(((virgin & BIT(sl)) != 0 -> news[sl] == 0 : (news[sl] & NEWS_HELD) != 0));
		assert(rem[sl] == 0);
#ifdef CLAIM_NO_STRAY_NEWS
		assert((news[sl] & ~NEWS_HELD) == 0);
#endif
		virgin = virgin & ~BIT(sl);
		news[sl] = 0;
		tok[sl] = NOBODY
	}
}

/* Under h's lock. The arena mask has given us the slab in `sl`. */
inline attach(sl, h)
{
	d_step {
		assert(tok[sl] == ME && lock[h] == _pid + 1);
		assert(rem[sl] == 0 && listed[sl] == 0 && map[sl] == 0);
		fre[sl] = ALL;
		listed[sl] = h + 1
	}
#ifdef MUTANT_ATTACH_ARM_FIRST
	arm_attached(sl);
	owner[sl] = h + 1;
	map[sl] = h + 1
#else
	owner[sl] = h + 1;
	map[sl] = h + 1;
	arm_attached(sl)
#endif
}

/* ---- D ---- */

/* The words that `dn` names. */
inline look(sl, h)
{
	do
	:: dw < WORDS && NAMED(dw) ->
		d_step {
			/* D3 */
			assert(lock[h] == _pid + 1 && owner[sl] == h + 1 && listed[sl] == h + 1);
			dg = rem[sl] & WORD(dw);
			rem[sl] = rem[sl] & ~dg;
			assert((dg & (fre[sl] | live[sl] | mag[sl])) == 0);
			fre[sl] = fre[sl] | dg;
			dg = 0;
			dw++
		}
	:: dw < WORDS && !NAMED(dw) -> dw++
	:: else -> break
	od;
	atomic { dw = 0; dn = 0 }
}

inline settle(sl, h)
{
	if
	:: fre[sl] == ALL -> retire(sl, h) /* D4 */
	:: else
	fi
}

/* Counts and marks what hangs together from `dl` on: whose the tokens are now. */
inline walk(from, to)
{
	gi = dl;
	gn = 0;
	do
	:: gi != 0 ->
		assert(gn < SLABS); /* else the list is a ring */
		assert(tok[gi - 1] == from);
		tok[gi - 1] = to;
		gi = rnext[gi - 1];
		gn++
	:: else -> break
	od;
	gi = 0;
	gn = 0
}

/* Under h's lock. */
inline drain(h)
{
	d_step {
		/* what the last one has left, which none but the lock's holder can see */
		assert(lock[h] == _pid + 1);
#ifndef MUTANT_DRAIN_FORGETS_REST
		dl = rest[h];
#endif
#ifndef MUTANT_SOME_KEEPS_REST
		rest[h] = 0;
#endif
		walk(STACK(h), ME)
	}
	do
#ifdef SOME
	:: some && dl != 0 ->
		d_step {
			/* what remains is left; the tokens stay with it */
			rest[h] = dl;
			walk(ME, STACK(h));
			dl = 0;
			came = 1 /* and no D1 */
		}
	:: some && dl != 0 && MANY(news[dl - 1]) ->
		d_step {
			/* D2 for some of the words: the token stays */
			ds = dl - 1;
			assert(tok[ds] == ME && owner[ds] == h + 1 && listed[ds] == h + 1 && (news[ds] & NEWS_HELD) == 0);
			dn = LOWEST(news[ds]);
#ifdef MUTANT_SOME_TAKES_ALL_NEWS
			news[ds] = 0;
			tok[ds] = NOBODY;
			dl = rnext[ds]
#else
			news[ds] = news[ds] & ~dn
#endif
		}
		look(ds, h);
		settle(ds, h);
		ds = 0
#endif
	:: dl != 0 ->
		d_step { ds = dl - 1; assert(tok[ds] == ME && owner[ds] == h + 1 && listed[ds] == h + 1) }
#ifndef MUTANT_RNEXT_AFTER_REARM
		dl = rnext[ds];
#endif
#ifdef MUTANT_REARM_AFTER_LOOK
		dn = NEWS_ALL;
		look(ds, h);
		arm(ds, 0);
		dn = 0;
#else
#ifdef MUTANT_NEWS_BEFORE_REARM
		/* "Which words are they?" as a step of its own; what came after it is overwritten. */
		dg = news[ds];
		arm(ds, 0);
		d_step { dn = dg; dg = 0 }
#else
		arm(ds, 0); /* D2 */
#endif
#ifdef MUTANT_RNEXT_AFTER_REARM
		dl = rnext[ds];
#endif
		look(ds, h);
#endif
		settle(ds, h);
		ds = 0
	:: dl == 0 && !came ->
		d_step {
			/* D1, once what had been left is done */
			dl = rstack[h];
			rstack[h] = 0;
			came = 1;
			walk(STACK(h), ME)
		}
	:: dl == 0 && came -> break
	od;
	came = 0
}

/* ---- STEAL ---- */

inline claim_token(sl)
{
	d_step {
		if
		:: news[sl] == 0 -> assert(tok[sl] == NOBODY); news[sl] = NEWS_HELD; tok[sl] = ME; won = 1
		:: else -> won = 0
		fi
	}
}

#ifdef MUTANT_STEAL_ATTACHED
#define MAY_STEAL(h) true
#else
#define MAY_STEAL(h) (parked[h])
#endif
#ifdef MUTANT_STEAL_NO_RECHECK
#define STILL(sl, h) true
#else
#define STILL(sl, h) (listed[sl] == (h) + 1)
#endif

#define STEALABLE(sl) (listed[sl] == x + 1)

/* The caller has heap y; x was chosen. */
inline steal(y)
{
	acquire(y);
	try_acquire(x, got);
	if
	:: got ->
		got = 0;
		if
		:: MAY_STEAL(x) && STEALABLE(0) -> s = 0; got = 1
#if SLABS > 1
		:: MAY_STEAL(x) && STEALABLE(1) -> s = 1; got = 1
#endif
		:: else
		fi;
		if
		:: got ->
#ifdef MUTANT_STEAL_NO_TOKEN
			won = 1;
#else
			claim_token(s);
			if
			:: !won ->
				drain(x);
				/* The drain may have retired the very slab we chose; another heap may have it by now. */
				if
				:: STILL(s, x) -> claim_token(s)
				:: else
				fi
			:: else
			fi;
#endif
			got = 0
		:: else
		fi;
		if
		:: won ->
			d_step { assert(listed[s] == x + 1 && owner[s] == x + 1); listed[s] = y + 1 }
#ifdef MUTANT_STEAL_REARM_FIRST
			arm(s, NEWS_HELD);
			owner[s] = y + 1;
			map[s] = y + 1;
#else
			d_step { assert(tok[s] == ME); owner[s] = y + 1 }
#ifdef MUTANT_STEAL_EARLY_RELEASE
			release(x);
#endif
			d_step { assert(tok[s] == ME); map[s] = y + 1 }
#ifdef MUTANT_STEAL_NEWS_EARLY
			dg = news[s] & ~NEWS_HELD;
			arm(s, NEWS_HELD);
			d_step { dn = dg; dg = 0 }
#else
			arm(s, NEWS_HELD);
#endif
#endif
#ifndef MUTANT_STEAL_EARLY_RELEASE
			release(x);
#endif
#ifdef MUTANT_STEAL_NO_LOOK
			dn = 0;
#else
			look(s, y);
#endif
			settle(s, y);
			won = 0
		:: else -> release(x)
		fi;
		s = 0
	:: else
	fi;
	release(y)
}

/* ---- malloc and free as the protocol sees them ---- */

#define TAKEABLE(sl) (listed[sl] == my && fre[sl] != 0)
#if SLABS > 1
#define NONE_TAKEABLE (!TAKEABLE(0) && !TAKEABLE(1))
#else
#define NONE_TAKEABLE (!TAKEABLE(0))
#endif

/* Under the lock of heap my - 1: blocks of a slab with free ones, else of a new slab, go to the program. */
inline refill()
{
	atomic {
		if
		:: TAKEABLE(0) -> s = 0; got = 1
#if SLABS > 1
		:: TAKEABLE(1) -> s = 1; got = 1
#endif
		:: NONE_TAKEABLE && (arena_free & BIT(0)) -> s = 0; m = 1
#if SLABS > 1
		:: NONE_TAKEABLE && !(arena_free & BIT(0)) && (arena_free & BIT(1)) -> s = 1; m = 1
#endif
		:: NONE_TAKEABLE && arena_free == 0
		fi;
		if
		:: m -> /* the claim: CAS on the arena's mask */
			assert(tok[s] == ARENA);
			arena_free = arena_free & ~BIT(s);
			tok[s] = ME
		:: else
		fi
	}
	if
	:: m -> m = 0; got = 1; attach(s, my - 1)
	:: else
	fi;
	if
	:: got ->
		atomic {
			assert(listed[s] == my && owner[s] == my && fre[s] != 0);
			if
			:: m = fre[s]
			:: LOWEST(fre[s]) != fre[s] -> m = LOWEST(fre[s])
			fi;
			assert((m & (live[s] | rem[s] | mag[s])) == 0);
			fre[s] = fre[s] & ~m;
			live[s] = live[s] | m;
			mail[s] = mail[s] | m;
			m = 0;
			got = 0
		}
	:: else
	fi;
	s = 0
}

/* Picks blocks the program frees now: one, or all of a slab. */
#define PICK \
	if \
	:: mail[0] != 0 -> s = 0 \
	:: MAIL_1 -> s = 1 \
	fi; \
	if \
	:: m = mail[s] \
	:: LOWEST(mail[s]) != mail[s] -> m = LOWEST(mail[s]) \
	fi; \
	mail[s] = mail[s] & ~m
#if SLABS > 1
#define MAIL_1 (mail[1] != 0)
#define ANY_MAIL (mail[0] != 0 || mail[1] != 0)
#else
#define MAIL_1 false
#define ANY_MAIL (mail[0] != 0)
#endif

/* free() in a thread with a heap: the map word alone decides. */
inline free_by_owner()
{
	w = map[s];
	assert(w != 0);
	if
	:: w == my ->
		d_step {
			assert((live[s] & m) == m);
			live[s] = live[s] & ~m;
			mag[s] = mag[s] | m
		}
		acquire(my - 1);
		d_step {
			/* flush */
			assert(listed[s] == my && owner[s] == my);
			assert((fre[s] & m) == 0);
			mag[s] = mag[s] & ~m;
			fre[s] = fre[s] | m
		}
		settle(s, my - 1);
		release(my - 1)
	:: else -> remote_deliver(s, m)
	fi;
	atomic { w = 0; s = 0; m = 0 }
}

inline choose_other_heap()
{
	x = (my == 1 -> 1 : 0)
#if HEAPS > 2
	;
	if
	:: my != 1 -> x = 0
	:: my != 2 -> x = 1
	:: my != 3 -> x = 2
	fi
#endif
}

/* fork() stops the parent's other threads at any step, for ever as far as the child can see: their processes leave
 * through the escape. Their locals are forgotten, which the child cannot know anyway; what they wrote stays, locks and
 * tokens in their hands included. */
#ifdef FORK
#define LIFE_BEGIN {
#define LIFE_END ; false } unless { forked -> bury() }
#else
#define LIFE_BEGIN
#define LIFE_END
#endif

inline bury()
{
	atomic {
		gi = 0;
		do
		:: gi < SLABS ->
			if
			:: tok[gi] == ME -> tok[gi] = DEAD
			:: else
			fi;
			gi++
		:: else -> break
		od;
		gi = 0;
		do
		:: gi < HEAPS ->
			if
			:: lock[gi] == _pid + 1 -> lock[gi] = DEAD
			:: else
			fi;
			gi++
		:: else -> break
		od;
		dl = 0; ds = 0; dw = 0; dn = 0; dg = 0; gi = 0; gn = 0; some = 0; came = 0; retired = 0; ours = 0; rh = 0; rhead = 0; rw = 0;
		pushed = 0; x = 0; got = 0; won = 0; s = 0; m = 0; w = 0; my = 0; ops = 0;
		buried++
	}
}

proctype Thread(byte h)
{
	LOCALS;

	LIFE_BEGIN
	my = h + 1;
	ops = OPS;
	do
	:: ops > 0 ->
		ops--;
		if
#ifdef ALLOC
		:: my != 0 -> acquire(my - 1); refill(); release(my - 1)
#endif
		:: my != 0 && (rstack[my - 1] != 0 || rest[my - 1] != 0) -> acquire(my - 1); some = 1; drain(my - 1); some = 0; release(my - 1)
#ifdef LOCAL
		:: atomic { my != 0 && ANY_MAIL -> PICK }; free_by_owner()
#endif
#ifdef PEEK
		/* Bits may be collected under the lock at any time, token or not: "is there something for me?" */
		:: my != 0 ->
			acquire(my - 1);
			if
			:: listed[0] == my -> dn = NEWS_ALL; look(0, my - 1); settle(0, my - 1)
			:: else
			fi;
			release(my - 1)
#endif
#ifdef HARVEST
		/* Somebody else's heap is drained, its thread being silent. */
		:: my != 0 ->
			choose_other_heap();
			acquire(my - 1);
			try_acquire(x, got);
			if
			:: got -> got = 0; drain(x); release(x)
			:: else
			fi;
			release(my - 1);
			x = 0
#endif
#ifdef STEAL
		:: my != 0 -> choose_other_heap(); steal(my - 1); x = 0
#endif
#ifdef PARK
		:: my != 0 -> /* thread exit; the magazines are empty at this point of the model */
			acquire(my - 1);
			parked[my - 1] = 1;
			release(my - 1);
			my = 0
		:: my == 0 -> /* a new thread */
			if
			:: parked[0] -> x = 0
			:: parked[1] -> x = 1
#if HEAPS > 2
			:: parked[2] -> x = 2
#endif
			:: else -> x = HEAPS
			fi;
			if
			:: x < HEAPS ->
#ifdef MUTANT_ADOPT_NO_LOCK
				atomic {
					if
					:: parked[x] -> parked[x] = 0; my = x + 1
					:: else
					fi
				}
#else
				acquire(x);
				if
				:: parked[x] -> parked[x] = 0; my = x + 1
				:: else
				fi;
				release(x)
#endif
			:: else
			fi;
			x = 0
#endif
		:: ops = 0
		fi
	:: else -> break
	od;
	threads_done++
	LIFE_END
}

#define ALL_RETURN (threads_done == THREADS)

proctype Producer()
{
	LOCALS;
	LIFE_BEGIN
	do
	:: atomic { ANY_MAIL -> PICK };
		remote_deliver(s, m);
		d_step { s = 0; m = 0 }
	:: ALL_RETURN && !ANY_MAIL -> break
	od;
	producers_done++
	LIFE_END
}

#ifndef FORK

/* The last one: everything has come to rest; each heap is drained once. */
proctype Finisher()
{
	LOCALS;
	(threads_done == THREADS && producers_done == PRODUCERS);
	my = 0;
	do
	:: my < HEAPS -> acquire(my); drain(my); release(my); my++
	:: else -> break
	od;
	s = 0;
	do
	:: s < SLABS ->
		d_step {
			assert(live[s] == 0 && mag[s] == 0);
			assert(rem[s] == 0); /* no block is stranded */
			assert(listed[s] == 0 && (arena_free & BIT(s)) != 0 && tok[s] == ARENA);
			s++
		}
	:: else -> break
	od
}

#else

/* In the child: somebody who frees remotely, as Producer, and the same for the one who should not be there yet. */
proctype ChildProducer()
{
	LOCALS;
	do
	:: atomic { ANY_MAIL -> PICK };
		remote_deliver(s, m);
		d_step { s = 0; m = 0 }
	:: else -> break
	od;
	producers_done++
}

/* exchange(news, 0). All words are looked at: who died between R1 and R2 left a bit, but no news. */
inline rearm_after_fork(sl)
{
	d_step {
#ifdef MUTANT_FORK_LOOKS_AT_NEWS_ONLY
		dn = news[sl] & ~NEWS_HELD;
#else
		dn = NEWS_ALL;
#endif
#ifndef MUTANT_FORK_NO_REARM
		news[sl] = 0;
		tok[sl] = NOBODY
#endif
	}
}

inline recover(h)
{
	acquire(h);
	d_step {
		rstack[h] = 0;
#ifndef MUTANT_FORK_KEEPS_REST
		rest[h] = 0;
#endif
		s = 0;
		do /* whoever had the token of one of our slabs is not in this process, or stands in the stack just cleared */
		:: s < SLABS ->
			if
#ifdef MUTANT_FORK_BY_OWNER
			:: owner[s] == h + 1 -> tok[s] = ME
#else
			:: listed[s] == h + 1 -> tok[s] = ME
#endif
			:: else
			fi;
			s++
		:: else -> break
		od;
		s = 0
	}
	do
	:: s < SLABS ->
		if
#ifdef MUTANT_FORK_BY_OWNER
		:: owner[s] == h + 1 ->
			rearm_after_fork(s);
			if
			:: listed[s] == h + 1 -> look(s, h); settle(s, h)
			:: else -> dn = 0
			fi
#else
		:: listed[s] == h + 1 ->
			rearm_after_fork(s);
			look(s, h);
			settle(s, h)
#endif
		:: else
		fi;
		s++
	:: else -> break
	od;
	s = 0;
	release(h)
}

/* The forking thread; heap 0 is its own. */
proctype Forker()
{
	LOCALS;
	my = 1;
	acquire(0); /* prepare */
	forked = 1; /* from here on this is the child: no process of before takes another step */
	buried == THREADS + PRODUCERS;
	atomic { threads_done = 0; producers_done = 0 }
	release(0);
#ifdef MUTANT_FORK_LATE
	run ChildProducer();
#endif
#ifdef FREE_FIRST
	/* While it is alone the child may free remotely before it has recovered anything. */
	if
	:: atomic { ANY_MAIL -> PICK }; remote_deliver(s, m); s = 0; m = 0
	:: true
	fi;
#endif
	recover(0);
	x = 1;
	do
	:: x < HEAPS ->
		if
#ifndef MUTANT_FORK_TRUST_LOCKED
		:: lock[x] != 0 -> written_off = written_off | BIT(x)
		:: else -> parked[x] = 1; recover(x)
#else
		:: true -> lock[x] = 0; parked[x] = 1; recover(x)
#endif
		fi;
		x++
	:: else -> break
	od;
	x = 0;
#ifndef MUTANT_FORK_LATE
	run ChildProducer();
#endif
	acquire(0); refill(); release(0);
	if
	:: rstack[0] != 0 || rest[0] != 0 -> acquire(0); drain(0); release(0)
	:: true
	fi;
	if
	:: parked[1] -> /* adopt it, or rob it */
#if HEAPS > 1
		if
		:: acquire(1); parked[1] = 0; my = 2; refill(); release(1); my = 1
		:: x = 1; steal(0); x = 0
		fi
#endif
	:: else
	fi;
	producers_done == 1;
	if
	:: ANY_MAIL -> run ChildProducer(); producers_done == 2
	:: else
	fi;
	my = 0;
	do
	:: my < HEAPS && !(written_off & BIT(my)) -> acquire(my); drain(my); release(my); my++
	:: my < HEAPS && (written_off & BIT(my)) -> my++
	:: else -> break
	od;
	s = 0;
	do
	:: s < SLABS ->
		d_step {
			if
			:: listed[s] != 0 && !(written_off & BIT(listed[s] - 1)) ->
				assert(rem[s] == 0);
				assert(fre[s] == (ALL & ~live[s] & ~mag[s])); /* what was freed is back */
				assert(fre[s] != ALL); /* and empty slabs are in the arena */
				assert(news[s] == 0 && tok[s] == NOBODY)
			:: else
			fi;
			s++
		}
	:: else -> break
	od
}

#endif

init
{
	byte i = 0;
	atomic {
		do
		:: i < SLABS ->
			if
			:: i < ATTACHED ->
#ifdef FORK
				owner[i] = (PARKED_FIRST < HEAPS -> PARKED_FIRST : i % HEAPS) + 1;
#else
				owner[i] = (PARKED_FIRST < HEAPS -> PARKED_FIRST : 0) + 1;
#endif
				listed[i] = owner[i];
				map[i] = owner[i];
				live[i] = ALL;
				mail[i] = ALL
			:: else ->
				tok[i] = ARENA;
				virgin = virgin | BIT(i);
				arena_free = arena_free | BIT(i)
			fi;
			i++
		:: else -> break
		od;
		i = PARKED_FIRST;
		do
		:: i < HEAPS -> parked[i] = 1; i++
		:: else -> break
		od;
#ifdef FORK
		run Forker();
		i = 1;
		do
		:: i <= THREADS -> run Thread(i); i++
		:: else -> break
		od;
#else
		run Finisher();
		i = 0;
		do
		:: i < THREADS -> run Thread(i); i++
		:: else -> break
		od;
#endif
		i = 0;
		do
		:: i < PRODUCERS -> run Producer(); i++
		:: else -> break
		od
	}
}
