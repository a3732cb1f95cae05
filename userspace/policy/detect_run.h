/* SPDX-License-Identifier: MIT */
/*
 * Inside the detectors: what the two engines (detect_engine.h, compiled twice)
 * and the verification share. Not for others.
 *
 * An engine looks at groups of 256 bytes and only ever backwards: a shape is
 * reported at the byte that completes it, so bits of the previous group are carried along and
 * nothing is missed or seen twice at a block's end. Each shape is a superset
 * of what its detector matches; verification alone decides.
 */
#ifndef TIDEGATE_POLICY_DETECT_RUN_H
#define TIDEGATE_POLICY_DETECT_RUN_H

#include "inspect/inspect.h"
#include "policy/detect.h"

enum {
	GROUP_WORDS = 4,
	GROUP_BYTES = GROUP_WORDS * 64,
	/* A hit starts at most this far before the byte at which its shape is reported. */
	DETECT_REACH = 72,
	DETECT_PENDING = 512,
};

/* Shapes, in the order in which an engine reports them. */
enum detect_shape {
	SHAPE_DATE,   /* dddd-dd-dd, at its last digit */
	SHAPE_SSN,    /* ddd-dd-dddd, at its last digit */
	SHAPE_UUID,   /* the four dashes, at the last */
	SHAPE_CARD,   /* 13 digits and single separators, at the 13th byte of the run */
	SHAPE_IPV4,   /* d.d.d.d, at the first digit behind the third dot */
	SHAPE_IBAN,   /* AAdd, at the last digit */
	SHAPE_AWS,    /* AAAA, at the last letter */
	SHAPE_PEM,    /* a capital letter behind five dashes */
	SHAPE_ANCHOR, /* one of @ + _ J */
	SHAPE_COUNT,
};

/* Bit i of a mask: byte i of 64 is of that class. */
struct detect_masks {
	uint64_t digit, upper, word, dash, dot, space, anchor;
};

struct detect_cands {
	uint64_t word[SHAPE_COUNT][GROUP_WORDS];
};

struct detect_run {
	const uint8_t *p;
	size_t n;
	uint32_t want;
	size_t group_end; /* of the group being verified */
	struct detect_hit *hits;
	size_t cap, nhits;
	size_t emitted_end;	     /* behind the last hit in hits[] */
	size_t card_next;	     /* a run of digits goes on here; SIZE_MAX: none */
	size_t jwt_run_end, jwt_end; /* first part last seen and where its token ends (0: none) */
	uint32_t last_end[DETECTOR_COUNT]; /* hits of one detector do not overlap */
	uint32_t npending;
	struct detect_hit pending[DETECT_PENDING]; /* verified, not yet in order */
};

/* Which detectors need a shape. */
static const uint32_t detect_shape_wants[SHAPE_COUNT] = {
	[SHAPE_DATE] = 1u << DETECT_BIT_DOB,
	[SHAPE_SSN] = 1u << DETECT_BIT_SSN,
	[SHAPE_UUID] = 1u << DETECT_BIT_UUID,
	[SHAPE_CARD] = 1u << DETECT_BIT_CARD,
	[SHAPE_IPV4] = 1u << DETECT_BIT_IPV4,
	[SHAPE_IBAN] = 1u << DETECT_BIT_IBAN,
	[SHAPE_AWS] = 1u << DETECT_BIT_AWS_KEY,
	[SHAPE_PEM] = 1u << DETECT_BIT_PRIVATE_KEY,
	[SHAPE_ANCHOR] = 1u << DETECT_BIT_EMAIL | 1u << DETECT_BIT_PHONE |
			 1u << DETECT_BIT_GITHUB_TOKEN | 1u << DETECT_BIT_JWT,
};

/*
 * The candidates of the group at @base: bit s * GROUP_WORDS + w of @nonzero is set
 * if c->word[s][w] is not zero. False: no more room for hits.
 */
bool detect_verify_group(struct detect_run *r, size_t base, const struct detect_cands *c,
			 uint64_t nonzero);

/* One candidate, at its reporting byte. */
void detect_verify(struct detect_run *r, enum detect_shape s, size_t at);
/* Goes on in a run of digits that did not end in its group. */
void detect_verify_card_run(struct detect_run *r, size_t start);

void detect_engine_portable(struct detect_run *r);
#if defined(__x86_64__)
void detect_engine_avx2(struct detect_run *r);
#endif

#endif
