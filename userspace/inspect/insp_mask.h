/* SPDX-License-Identifier: MIT */
/*
 * Words that inspectors and policy share about masks: detectors, what replaces
 * a value, columns, plans and values.
 */
#ifndef TIDEGATE_INSPECT_INSP_MASK_H
#define TIDEGATE_INSPECT_INSP_MASK_H

#include "base/slice.h"

/* X(NAME, "name"): built-in value detectors; a bit each. */
#define DETECTORS(X)                                                                               \
	X(CARD, "card")                                                                            \
	X(EMAIL, "email")                                                                          \
	X(IBAN, "iban")                                                                            \
	X(SSN, "ssn")                                                                              \
	X(PHONE, "phone")                                                                          \
	X(IPV4, "ipv4")                                                                            \
	X(UUID, "uuid")                                                                            \
	X(DOB, "dob")                                                                              \
	X(AWS_KEY, "aws_key")                                                                      \
	X(GITHUB_TOKEN, "github_token")                                                            \
	X(JWT, "jwt")                                                                              \
	X(PRIVATE_KEY, "private_key")                                                              \
	X(PATTERN, "pattern")

enum detector_bit {
#define X(name, text) DETECT_BIT_##name,
	DETECTORS(X)
#undef X
	DETECTOR_COUNT
};

enum mask_how {
	MASK_NONE,
	MASK_REDACT, /* text: "***"; other types: the type's zero */
	MASK_LAST4,  /* all but the last four characters replaced */
	MASK_HASH,   /* keyed hash, the same for the same value within the key's life */
	MASK_NULL,
};

/* A column of a result as the protocol describes it. */
struct insp_column {
	uint32_t table; /* OID of its table, 0 if it has none */
	int16_t attnum;
	uint32_t type; /* OID */
	bool binary;
	struct slice label;
	struct slice name; /* COPY: the column's name, when table is not known */
};

/* What is to be done with a column. */
struct insp_plan {
	uint8_t how;	    /* enum mask_how: MASK_NONE: only scan */
	uint8_t found_how;  /* what replaces a detector's hit */
	uint32_t detectors; /* bits; 0: not scanned */
	uint16_t rule;	    /* index of the mask rule, for the record */
	bool unresolved;    /* masked because its origin is unknown */
	uint32_t type;	    /* COPY: OID, where the host knows it; else 0 */
};

/* What holds for all columns of a result. */
struct insp_shape {
	bool texts;  /* values in error and notice texts of the statement are hidden */
	uint32_t id; /* the host's name for these plans, told again in events; 0: they do nothing */
};

/* One value that a plan applies to. */
struct insp_value {
	struct slice in;
	const struct insp_plan *plan;
	struct slice out; /* filled if changed: valid until the next call of mask(); p NULL: NULL */
	bool changed;
	uint32_t hits; /* detector bits that were found */
};

const char *detector_name(enum detector_bit bit);
int detector_parse(struct slice name); /* bit or -1 */
const char *mask_how_name(enum mask_how how);
int mask_how_parse(struct slice name); /* enum mask_how or -1 */

#endif
