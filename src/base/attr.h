/* Compiler attributes and the two words that mark a function's temperature. */
#ifndef HAKMEM_BASE_ATTR_H
#define HAKMEM_BASE_ATTR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LIKELY(x) __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)

/* FAST: on the hit path, always inlined. SLOW: leaves the hit path; kept out of line so the hit path stays short, and
 * compiled for size. NOINLINE: out of line for the same reason, but some programs come here often. NEAR: out of line as
 * well, and run by every process, though out of a file that most never need: layout.ld keeps it with the hit paths. */
#define FAST static inline __attribute__((always_inline))
#define SLOW __attribute__((noinline, cold))
#define NOINLINE __attribute__((noinline))
#define NEAR __attribute__((noinline, section(".text.near")))

/* Zeroed data of which most processes touch the start at most, or nothing: layout.ld puts it behind all other data. */
#define FAR __attribute__((section(".bss.sparse")))

#define NORETURN __attribute__((noreturn))
#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))
#define CACHE_LINE_BYTES 64
#define CACHE_ALIGNED __attribute__((aligned(CACHE_LINE_BYTES)))

/* Every internal symbol is hidden (-fvisibility=hidden); the public surface says EXPORT and stands in the version script. */
#define EXPORT __attribute__((visibility("default")))

/* TLS must be initial-exec: a lazily allocated thread-local block would make malloc call malloc. */
#define THREAD_LOCAL static __thread __attribute__((tls_model("initial-exec")))
#define THREAD_LOCAL_EXTERN extern __thread __attribute__((tls_model("initial-exec")))
#define THREAD_LOCAL_DEFINE __thread __attribute__((tls_model("initial-exec")))

/* 1 in a build with ThreadSanitizer, by gcc's way of saying so or by clang's. */
#ifdef __has_feature
#if __has_feature(thread_sanitizer)
#define UNDER_THREAD_SANITIZER 1
#endif
#endif
#ifdef __SANITIZE_THREAD__
#define UNDER_THREAD_SANITIZER 1
#endif
#ifndef UNDER_THREAD_SANITIZER
#define UNDER_THREAD_SANITIZER 0
#endif

#endif
