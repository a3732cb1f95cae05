/* SPDX-License-Identifier: MIT */
/*
 * What an inspector reports and asks, and the answers it gets. See inspect.h for when.
 */
#ifndef TIDEGATE_INSPECT_INSP_EVENT_H
#define TIDEGATE_INSPECT_INSP_EVENT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"
#include "inspect/insp_login.h"
#include "inspect/sql/sqlinfo.h"

enum event_kind {
	EV_LOGIN,	/* question: may this session open? Nothing reaches the server before */
	EV_CANCEL,	/* statement: a cancel request; the flow ends after it */
	EV_BACKEND_KEY, /* statement: the server's key for cancel requests */
	EV_READY,	/* statement: login is complete */
	EV_STATEMENT,	/* question: a text, before it reaches the server (also PREPARE-like) */
	EV_EXECUTE,	/* question: about to run; digest covers text, parameters and their types */
	EV_RESULT,	/* statement: a command finished: tag and rows */
	EV_SETTLED,	/* statement: no transaction is open any more, and one had changed
			   definitions; without a number */
	EV_ERROR,	/* statement: the server reported an error */
	EV_LOGIN_ERROR, /* statement: it refused a login of our own; the client is told less */
	EV_MASKED,	/* statement: what masks did to one result */
	EV_GLITCH,	/* statement: odd but tolerated; the host counts against a threshold */
};

struct event {
	enum event_kind kind;
	uint64_t seq; /* unique in the flow: odd for the client's side, even for the server's */
	union {
		struct {
			struct slice user, database, application; /* empty: the protocol has none */
			bool unencrypted_only; /* the client was told that TLS is not offered */
		} login;
		struct {
			uint32_t pid, key;
		} backend; /* EV_CANCEL, EV_BACKEND_KEY */
		struct {
			/* To be referenced only if it has a shape: else it may be a combination. */
			const struct sql_info *info;
			struct slice text;
			struct slice params; /* for people, cut to a line or so */
			/* The text behind a name (EXECUTE x, FETCH c), if that is what will run. */
			struct slice named;
			const struct sql_info *named_info;
			uint64_t statement_seq; /* EV_EXECUTE: seq of its EV_STATEMENT */
			uint8_t digest[32]; /* SHA-256 over text, parameters, types, and what is named */
			bool has_digest; /* always with EV_EXECUTE; else where the text is not all */
			bool in_transaction;	/* holding it keeps locks */
			bool simple; /* simple protocol: this question is also the EV_EXECUTE */
		} statement;
		struct {
			struct slice tag;
			uint64_t rows;
			uint64_t statement_seq;
			uint32_t plan; /* insp_shape.id of its rows */
			bool defines;  /* it may have changed definitions */
		} result;
		struct {
			struct slice code, message; /* as the client will see it */
			uint32_t plan;		    /* insp_shape.id of its texts */
		} error;
		struct {
			uint64_t statement_seq;
			uint64_t values;  /* masked because of their column */
			uint64_t hits;	  /* found by detectors */
			uint64_t over_cap; /* replaced whole */
			uint32_t detectors; /* OR of detector bits that hit */
			uint32_t plan;	    /* insp_shape.id */
		} masked;
		struct {
			const char *what;
		} glitch;
	};
};

/* The answer to a question. Slices live until the next call into the host. */
struct insp_answer {
	enum insp_verdict verdict;
	uint16_t reason;	/* of a denial */
	struct slice message;	/* of a denial: one line for the user */
	struct slice detail;	/* rule and request id */
	struct slice hint;	/* what to do */
	bool at_execute;	/* EV_STATEMENT: ask again with EV_EXECUTE and a digest */
	bool cancelled;		/* of a denial: the client cancelled it (57014) */
	struct slice login_as;	/* EV_LOGIN: not the client logs in but we, as this user */
};

#endif
