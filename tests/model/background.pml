/* How the background thread falls asleep and is woken: a model for spin (https://spinroot.com), run by run.sh.
 *
 * Read docs/concurrency.md first, "The background thread"; the labels are its labels:
 *
 *   B1..B4   background_main()                  steps, looks, announces that it will sleep, sleeps
 *   W1..W4   upcall_background_note_free()      a thread has made something free, and wakes it if it sleeps
 *   START    upcall_background_start()          by the main thread, which may be refused a thread and tries again
 *   STOP     background_thread_exits()          the main thread ends, not the process
 *   FORK     background_forget()                in the child there is no background thread until START
 *
 * TIME. A thread's W1 may become visible after its W2: there is no fence between them. Here W1 goes into a store buffer
 * (`buffered`), from where Memory brings it out some time later. The one assumption about time that the protocol makes:
 * looks are so far apart, by the clock, that what is in a buffer at one look (`due`) has left it at the next. A step that
 * comes sooner, because a pause was cut short by a W4 that took its time, is no look. Nothing else is assumed: threads may
 * stand still anywhere for as long as they like, and pauses may be of any length.
 *
 * WHAT IS FREE. `remote`: a notice stands on a heap's remote stack (R4). `empties`: a heap has empty slabs, `used` says
 * that it has moved a batch since the last look (heap_flush does both, under `lock`). `pages`: slabs have gone to the arena,
 * and after DECAY more looks their pages can be given back; LOCKED ones never can. A look turns the first two into the
 * third.
 *
 * WHAT IS CHECKED, in every reachable state:
 *   - when nobody can take a step any more, the thread sleeps (or has ended after STOP), and nothing is left that it could
 *     have given back: no wake-up was lost
 *   - looks at which nothing has happened since the last are few: it does go to sleep, and only a wake-up (or a spurious
 *     return of the kernel's) ends that, so while there is nothing to do it sleeps for ever
 *   - one thread at most calls the kernel for each announcement
 *   - fork never catches it with a heap's lock in its hands
 *
 * CONFIGURATION by -D; run.sh has the list. THREADS (that free), OPS (each), DECAY, QUIET and STUCK (QUIET_LOOKS and
 * STUCK_LOOKS in C, large there). Features: STOP, FORK, LOCKED, REFUSED, SPURIOUS. Bugs: MUTANT_x. */

#ifndef THREADS
#define THREADS 1
#endif
#ifndef OPS
#define OPS 1
#endif
#ifndef DECAY
#define DECAY 2
#endif
#ifndef QUIET
#define QUIET 1
#endif
#ifndef STUCK
#define STUCK 3
#endif

#define NONE 0
#define AWAKE 1
#define ASLEEP 2
#define STOPPED 3

#define BIT(p) (1 << (p))
#define KIND_REMOTE 1
#define KIND_FLUSH 2
#define KIND_ARENA 3

#define LOCK_BACKGROUND 255

/* Shared words. */
byte state;     /* upcall_background */
bit waiting;    /* the background thread is in the futex' queue */
byte lock;      /* of the one heap: 0 free, thread + 1, or LOCK_BACKGROUND */
bit tick;       /* LOCK_TICK */
bit remote, used, empties, pages;
byte age;       /* looks until the pages may go */

/* Store buffers: a bit per thread, and what it will do. */
byte buffered;
byte kind[THREADS];
byte due;       /* what was there at the last look, and still is */

/* Ghosts. */
bit exists;        /* a background thread does */
byte alive;        /* threads but for the main one */
byte idle;         /* looks since something happened */
byte owed;         /* calls of the kernel: one for each time that a thread changed ASLEEP to AWAKE */
byte done;         /* threads that are */
bit forked, written_off;
bit spurious_left;

/* Of the parent's threads none goes on in the child. */
#ifdef FORK
#define LIFE {
#define LIFE_END ; alive-- } unless { forked && !child -> alive-- }
#else
#define LIFE {
#define LIFE_END ; alive-- }
#endif

/* ---- memory, kernel ---- */

inline become_visible(p)
{
	d_step {
		if
		:: kind[p] == KIND_REMOTE -> remote = 1
		:: kind[p] == KIND_FLUSH -> used = 1; empties = 1; assert(lock == p + 1); lock = 0
		:: kind[p] == KIND_ARENA -> pages = 1; age = DECAY
		fi;
		kind[p] = 0;
		buffered = buffered & ~BIT(p);
		due = due & ~BIT(p);
		idle = 0
	}
}

/* atomic, not a step at a time: the bit is what enables it. */
proctype Memory()
{
end:	do
	:: atomic { (buffered & BIT(0)) != 0 -> become_visible(0) }
#if THREADS > 1
	:: atomic { (buffered & BIT(1)) != 0 -> become_visible(1) }
#endif
	od
}

/* The kernel compares and enqueues in one step. */
#ifdef MUTANT_WAIT_WITHOUT_COMPARE
#define MAY_WAIT(expected) true
#else
#define MAY_WAIT(expected) (state == (expected))
#endif

inline futex_wake()
{
	d_step { assert(owed > 0); owed--; waiting = 0 }
}

inline pause(expected)
{
	if
	:: atomic { MAY_WAIT(expected) -> waiting = 1 };
		waiting = 0 /* its time is over, or somebody has done the same before */
	:: atomic { !MAY_WAIT(expected) -> skip }
	fi
}

inline sleep(expected)
{
	if
	:: atomic { MAY_WAIT(expected) -> waiting = 1 };
end_asleep:
		if
		:: atomic { !waiting -> idle = 0 } /* perhaps by a W4 that has taken its time */
#ifdef SPURIOUS
		:: atomic { waiting && spurious_left -> waiting = 0; spurious_left = 0; idle = 0 }
#endif
		fi
	:: atomic { !MAY_WAIT(expected) -> skip }
	fi
}

/* ---- B ---- */

inline run_tick()
{
	d_step {
#ifndef LOCKED
		if
		:: pages && age == 0 -> pages = 0; idle = 0
		:: else
		fi;
#endif
		if
		:: age > 0 -> age--
		:: else
		fi;
		if
		:: pages != seen_pages -> moved = 1; seen_pages = pages
		:: else
		fi
	}
}

inline harvest_locked()
{
	d_step {
		if
		:: used || remote -> moved = 1; idle = 0
		:: else
		fi;
		if
		:: !used && (remote || empties) -> remote = 0; empties = 0; pages = 1; age = DECAY; idle = 0
		:: else
		fi;
		used = 0
	}
}

/* Its lock is there to be died with: only fork sees it held. */
inline harvest()
{
	if
	:: written_off /* HEAP_RETIRED */
#ifdef FORK
	:: atomic { !written_off && lock == 0 -> lock = LOCK_BACKGROUND };
		atomic { true -> harvest_locked(); lock = 0 }
#else
	:: atomic { !written_off && lock == 0 -> harvest_locked() }
#endif
	:: atomic { !written_off && lock != 0 -> moved = 1; idle = 0 } /* its thread is busy with it */
	fi
}

inline consider_sleep()
{
	d_step {
		idle++;
		due = buffered;
		if
		:: moved ->
#ifdef MUTANT_BACK_BY_STORE
			state = AWAKE;
#else
			if
			:: state == ASLEEP -> state = AWAKE /* B3 */
			:: else
			fi;
#endif
			announced = 0
		:: !moved && !announced ->
#ifdef MUTANT_ANNOUNCED_WHEN_IT_SLEEPS
			announced = 1;
#else
#ifdef MUTANT_ANNOUNCE_BY_STORE
			state = ASLEEP; announced = 1;
#else
			if
			:: state == AWAKE -> state = ASLEEP; announced = 1 /* B1 */
			:: else
			fi;
#endif
#endif
			quiet = 0
		:: !moved && announced ->
			if
			:: quiet < STUCK -> quiet++
			:: else
			fi
		fi;
#ifndef MUTANT_MOVED_STAYS
		moved = 0;
#endif
		assert(idle <= 3 + (pages -> STUCK : QUIET))
	}
}

#ifdef MUTANT_LOOKS_BY_NUMBER
#define LOOK_IS_DUE true
#else
#define LOOK_IS_DUE (due == 0)
#endif
#ifdef MUTANT_NO_LOOKS
#define LOOKS 0
#else
#ifdef MUTANT_FLOOR_FORGOTTEN
#define LOOKS QUIET
#else
#define LOOKS (seen_pages -> STUCK : QUIET)
#endif
#endif
#ifdef MUTANT_NEVER_STUCK
#define NOTHING_LEFT (announced && quiet >= QUIET && !seen_pages)
#else
#define NOTHING_LEFT (announced && quiet >= LOOKS)
#endif

proctype Background(bit child)
{
	bit announced, moved, seen_pages, for_ever, is_look;
	byte quiet;
	LIFE
	do
	:: /* wait_for_step */
		if
		:: announced ->
#ifdef MUTANT_ANNOUNCED_WHEN_IT_SLEEPS
			if
			:: for_ever ->
				d_step {
					if
					:: state == AWAKE -> state = ASLEEP
					:: else
					fi
				};
				sleep(ASLEEP)
			:: else -> pause(AWAKE); goto step
			fi;
#else
			if
			:: for_ever -> sleep(ASLEEP) /* B4 */
			:: else -> pause(ASLEEP)     /* B2 */
			fi;
#endif
			if
			:: atomic { state == ASLEEP -> goto step }
			:: atomic { state != ASLEEP -> announced = 0; moved = 1; for_ever = 0; idle = 0 }
			fi
		:: else
		fi;
		assert(!for_ever);
		pause(AWAKE);
		if
		:: state == STOPPED -> break
		:: else
		fi;
step:
		/* What is private to the thread is one step with what is not. */
#ifdef MUTANT_LOOK_WITHOUT_TICK
		atomic { true -> is_look = LOOK_IS_DUE; run_tick() };
#else
		atomic { !tick -> tick = 1; is_look = LOOK_IS_DUE; run_tick() };
#endif
		if
		:: is_look ->
			harvest();
			atomic { tick = 0; consider_sleep(); is_look = 0; for_ever = NOTHING_LEFT }
		:: else -> atomic { tick = 0; for_ever = NOTHING_LEFT }
		fi
	od;
	exists = 0
	LIFE_END
}

/* ---- W ---- */

inline make_free(p)
{
	if
	:: atomic { (buffered & BIT(p)) == 0 -> kind[p] = KIND_REMOTE; buffered = buffered | BIT(p) }
	:: atomic { (buffered & BIT(p)) == 0 && lock == 0 -> lock = p + 1; kind[p] = KIND_FLUSH; buffered = buffered | BIT(p) }
	:: atomic { (buffered & BIT(p)) == 0 -> kind[p] = KIND_ARENA; buffered = buffered | BIT(p) }
	fi
}

inline note_free(p)
{
#ifdef MUTANT_W2_FIRST
	is_asleep = state == ASLEEP;
	make_free(p);
#else
	make_free(p);                /* W1 */
	is_asleep = state == ASLEEP; /* W2 */
#endif
	if
	:: is_asleep ->
		is_asleep = 0;
		/* W3: what is released is visible before the state has changed */
		atomic {
			if
#ifdef MUTANT_WAKE_BY_STORE
			:: true -> won = 1; state = AWAKE; owed++
#else
			:: state == ASLEEP -> won = 1; state = AWAKE; owed++
			:: else -> won = 0
#endif
			fi;
			if
			:: won && (buffered & BIT(p)) != 0 -> become_visible(p)
			:: else
			fi
		};
#ifdef MUTANT_EVERYBODY_WAKES
		won = 1;
#endif
		if
		:: won ->
#ifndef MUTANT_WAKE_WITHOUT_KERNEL
			futex_wake(); /* W4 */
#endif
			won = 0
		:: else
		fi
	:: else
	fi
}

proctype Thread(byte p; bit child)
{
	byte ops;
	bit is_asleep, won;
	LIFE
	do
	:: ops < OPS -> note_free(p); ops++
	:: else -> break
	od;
	ops = 0;
	done++
	LIFE_END
}

/* ---- START, STOP, FORK ---- */

inline start(of_child)
{
	d_step {
		if
		:: state == NONE -> state = AWAKE; won = 1
		:: else -> won = 0
		fi
	};
	if
	:: won ->
		won = 0;
		if
		:: atomic { !exists -> exists = 1; alive++; run Background(of_child) }
#ifdef REFUSED
		:: !refused ->
			refused = 1;
#ifndef MUTANT_REFUSED_KEEPS_STATE
			state = NONE
#endif
#endif
		fi
	:: else
	fi
}

proctype Main()
{
	bit won, refused;
	start(0);
	start(0); /* with the next thread it is tried again */
#ifdef STOP
	state = STOPPED;
#ifndef MUTANT_STOP_WITHOUT_WAKE
	owed++;
	futex_wake();
#endif
#endif
#ifdef FORK
	atomic { !tick -> tick = 1 }; /* prepare */
	d_step {
		forked = 1;
		/* The heap of a thread that died in the middle is written off. No such thread is the background thread. */
		assert(lock != LOCK_BACKGROUND);
		written_off = lock != 0;
		exists = 0;
		waiting = 0;
		due = 0;
		owed = 0;
		idle = 0;
		done = THREADS - 1
	};
	alive == 0;
	/* What the others had not made visible is in the image, or it is not. */
	atomic {
		if
		:: buffered = 0
		:: true
		fi
	};
	buffered == 0;
#ifndef MUTANT_FORK_KEEPS_STATE
	state = NONE;
#endif
	tick = 0;
	start(1);
	atomic { alive++; run Thread(0, 1) };
	start(1)
#endif
}

proctype Finisher()
{
	timeout;
	assert(done == THREADS && buffered == 0);
#ifdef STOP
	assert(!exists && state == STOPPED);
#else
	assert(exists && waiting && state == ASLEEP);
	assert(written_off || (!remote && !used && !empties));
#ifndef LOCKED
	assert(!pages);
#endif
#endif
}

init
{
	atomic {
#ifdef SPURIOUS
		spurious_left = 1;
#endif
		run Memory();
		alive = THREADS;
		run Thread(0, 0);
#if THREADS > 1
		run Thread(1, 0);
#endif
		run Main();
		run Finisher()
	}
}
