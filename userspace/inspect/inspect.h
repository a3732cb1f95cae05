/* SPDX-License-Identifier: MIT */
/*
 * The inspector interface: one protocol behind one constant table.
 *
 * An inspector is a pure function over two byte streams. It does no I/O,
 * reads no clock, logs nothing and keeps no globals; it allocates from the
 * flow's arena and from the outputs it is given. The same code therefore runs
 * in the daemon and under the fuzzer.
 *
 * Contract
 *  1. Cut invariance: however the streams are cut into reads, the events, the
 *     questions and the output bytes are the same.
 *  2. feed() is given all unread bytes of one direction, borrowed until it
 *     returns. It handles as many messages as are there, says how many bytes
 *     it used, and puts what goes on into env->out[]. Unused bytes are given
 *     again, with more behind them.
 *  3. Output to the client may be made while feeding the client's side (a
 *     denial) and to the server while feeding the server's side (a Describe
 *     of our own). The host sends both after each call.
 *  4. A question (event(), columns()) may be answered INSP_V_WAIT. The
 *     inspector then returns INSP_WAIT without using the bytes that the
 *     question is about; the host calls feed() again when the answer is
 *     there, and the inspector asks again with the same seq. Each event is
 *     emitted once per answer; nothing behind it overtakes it.
 *  5. Bytes it cannot explain end the flow: INSP_BAD and a reason. Whether
 *     that means closed or pass-through is the host's choice.
 *  6. Peer-controlled sizes have limits, and tighter ones before login.
 *  7. INSP_STALL: the rest of this direction depends on what the other side
 *     says next. The host reads no more of this direction and calls feed()
 *     with the same bytes after every feed() of the other one that used some.
 *  8. feed() may be given nothing. The first call of a flow gives the client's
 *     side nothing: where the server may speak first, or the client's bytes
 *     say nothing of who is to be let in, EV_LOGIN is asked then. While it is
 *     open (INSP_WAIT) nothing is read.
 */
#ifndef TIDEGATE_INSPECT_INSPECT_H
#define TIDEGATE_INSPECT_INSPECT_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/jsonw.h"
#include "base/reason.h"
#include "base/slice.h"
#include "inspect/insp_event.h"
#include "inspect/insp_login.h"
#include "inspect/insp_mask.h"
#include "inspect/insp_out.h"

enum insp_dir { INSP_C2S, INSP_S2C };

/* Index into env->out[]: who receives the bytes. */
enum insp_to { INSP_TO_SERVER = INSP_C2S, INSP_TO_CLIENT = INSP_S2C };

enum insp_match { INSP_NO, INSP_MAYBE, INSP_YES };

enum insp_status {
	INSP_MORE, /* used what it could; call again with more */
	INSP_WAIT, /* a question is open; call again with the same bytes when it is answered */
	INSP_STALL, /* cannot go on before the other direction has moved: see 7 */
	INSP_YIELD, /* the budget of this call is used up; call again with the rest */
	INSP_END,  /* the protocol has ended: send the outputs, then close both sides */
	INSP_BAD,  /* the peer broke the protocol or a limit: see the reason */
};

/* ---------------------------------------------------------------- host */

struct insp_host {
	/* All kinds of events; statements are answered ALLOW. */
	enum insp_verdict (*event)(void *ctx, const struct event *ev, struct insp_answer *ret);
	/*
	 * Plans for the columns of a result of @info (NULL: unknown statement,
	 * e.g. FETCH from a cursor that was never seen). @tainted says that what the
	 * columns without an origin are made of could be masked data even
	 * if @info does not name any. ALLOW or WAIT.
	 * `ret->texts` tells how error and notice texts of the statement are
	 * treated: true: values in them are hidden. The question is also asked with one
	 * column of type text and no origin when only the texts matter (an error before any
	 * row): its plan's detectors are what texts are scanned for.
	 * COPY: @info->copy names the relation; columns come in the order of the stream, with
	 * `name` if the statement lists them. There @tainted says that this very transaction may
	 * have changed them.
	 */
	enum insp_verdict (*columns)(void *ctx, const struct sql_info *info, bool tainted,
				     const struct insp_column *cols, uint32_t n,
				     struct insp_plan *plans, struct insp_shape *ret);
	/* Applies plans to text values; returns how many changed. Never fails: what cannot be
	 * scanned is replaced. */
	uint32_t (*mask)(void *ctx, struct insp_value *v, uint32_t n);
	/* See insp_login.h. */
	insp_login_fn *login;
	/* @s, in the current input, is secret: kept out of the recording. */
	void (*secret)(void *ctx, struct slice s);
};

struct insp_limits {
	size_t message_bytes; /* a client message that must be held whole: 0: 16 MiB */
	size_t value_bytes;   /* a value under a mask or detector: 0: 1 MiB */
	size_t row_bytes;     /* a row that is held whole: 0: twice value_bytes, at least 64 KiB */
	uint32_t turn_events; /* events and questions behind which one feed() stops: 0: no limit */
};

struct sql; /* inspect/sql/sql.h */

struct insp_env {
	const struct insp_host *host;
	void *ctx;
	struct arena *arena; /* of the flow */
	struct sql *sql;     /* shared by the flows of a worker */
	struct buf *scratch; /* shared; content does not survive a call */
	struct insp_out *out[2]; /* indexed by enum insp_to; reset by the host before each call */
	struct insp_limits limits;
	bool masking; /* any mask or detector can apply: otherwise bodies are not looked into */
	bool server_socket; /* the server is reached over AF_UNIX */
	const struct insp_channel *channel; /* it is reached through TLS; NULL: it is not, or not yet */
	bool socket_trust; /* such a server need not ask for authentication */
	uint32_t rules;	     /* changed by the host whenever earlier answers about statements are void */
	uint32_t generation; /* changed by the host whenever earlier answers of columns() are void */
	/*
	 * The server's bytes are those that a client got: what we asked the server ourselves was
	 * answered to us then, and is not asked again.
	 */
	bool replay;
};

/* Why a session ends, in words that the inspector wraps. */
struct insp_words {
	uint16_t reason;
	struct slice message, detail, hint;
};

enum { INSP_CANCEL_MAX = 32, INSP_TLS_ASK_MAX = 32 };
#define INSP_NO_MESSAGE UINT64_MAX

/* What it does with the bytes beside passing them on: all that a configuration may ask of it. */
enum insp_does {
	INSP_JUDGES = 1 << 0, /* EV_STATEMENT and EV_EXECUTE: `commands`, limits of statements */
	INSP_MASKS = 1 << 1,  /* columns() and mask(): `mask`, `catalog`, limits of values */
	INSP_LOGS_IN = 1 << 2, /* itself, as login_as says: `credential`; knows unasked logins */
	INSP_STARTS_TLS = 1 << 3, /* tls_ask() and tls_answer(): `tls` */
};

struct inspector {
	const char *name;   /* as in configuration, logs and CLI */
	uint16_t port;	    /* usual port: a hint for detection, never proof */
	uint32_t does;	    /* enum insp_does */
	/*
	 * The end of a side's stream is something that it says: it is passed on, and the other side may
	 * go on speaking. Where the host ends such a flow it resets both sides, so that
	 * neither takes a part for the whole. Otherwise the inspector says when a flow has ended.
	 */
	bool half_close;
	size_t state_size;  /* zeroed block per flow, from the flow's arena */
	/* Answers from either side alone; the other may be empty. */
	enum insp_match (*probe)(struct slice c2s, struct slice s2c);
	/* 0 or negative errno. @env outlives the state. */
	int (*open)(void *st, const struct insp_env *env);
	/*
	 * @ret_used: bytes of @in that are done with. @ret_why: reason of
	 * INSP_BAD and INSP_END. @eof: nothing follows in this direction.
	 */
	enum insp_status (*feed)(void *st, enum insp_dir dir, struct slice in, bool eof,
				 size_t *ret_used, uint16_t *ret_why);
	/*
	 * How long the server's message is that begins with @head, head and all; 0: more of it
	 * must be seen; INSP_NO_MESSAGE: none begins so. NULL: the server's stream has no messages.
	 * What an inspector makes up itself stands between messages, and nowhere where there are none.
	 */
	uint64_t (*extent)(struct slice head);
	/*
	 * Says goodbye to the client in the protocol's words, if a message may
	 * start there now; otherwise says nothing. The host closes afterwards.
	 */
	void (*end)(void *st, const struct insp_words *words);
	/* Tells a waiting client something, where the protocol can; otherwise nothing. */
	void (*notice)(void *st, struct slice text);
	/*
	 * A question is open and its bytes are held (for Ctrl-C and hold limits). It may
	 * close by itself while the server's side is fed: the server has failed the batch, so
	 * the message will be skipped. Then feed the client's side again.
	 */
	bool (*holding)(const void *st);
	/* Nothing runs and no transaction is open: a goodbye cuts nothing short. NULL: never told. */
	bool (*idle)(const void *st);
	/*
	 * What a connection of its own sends to have the server stop what a session
	 * does, by that session's key (EV_BACKEND_KEY): bytes written to @dst. NULL: it reports none.
	 */
	size_t (*cancel)(uint32_t pid, uint32_t key, uint8_t dst[INSP_CANCEL_MAX]);
	/*
	 * What asks a server for TLS before anything else is said: bytes written to @dst; and what its one
	 * byte means: 1: TLS begins now; 0: there is none; -EBADMSG. NULL: there is no such question.
	 */
	size_t (*tls_ask)(uint8_t dst[INSP_TLS_ASK_MAX]);
	int (*tls_answer)(uint8_t byte);
	/* Releases references; memory goes with the arena. */
	void (*close)(void *st);
	void (*describe)(const void *st, struct jsonw *w);
};

extern const struct inspector inspector_postgresql, inspector_tcp;

/* NULL-terminated. */
extern const struct inspector *const inspectors[];
/* NULL if there is none of that name. */
const struct inspector *inspector_find(struct slice name);

#endif
