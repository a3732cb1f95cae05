/* SPDX-License-Identifier: MIT */
/*
 * State of one flow of the PostgreSQL inspector.
 *
 * How the two directions keep step. Every message that goes to the server and
 * will be answered leaves an entry in a queue (pg_reply.c); the server's
 * messages are judged by the entry at its head, so an answer that fits nothing
 * ends the flow. A denial is an entry too, with the bytes to send: the client
 * sees it when everything asked before has been answered. After an error in
 * the extended protocol the entries up to the next Sync fall, as the server skips the
 * messages they stand for.
 *
 * Names of prepared statements and portals have two values: what the server has
 * said (confirmed) and what it will be if all that was sent succeeds (current). While
 * they may differ because of an earlier batch, a message that needs the name
 * stalls until the server has answered.
 */
#ifndef TIDEGATE_INSPECT_PG_STATE_H
#define TIDEGATE_INSPECT_PG_STATE_H

#include "base/compiler.h"
#include "base/cursor.h"
#include "inspect/inspect.h"
#include "inspect/pg_rows.h"
#include "inspect/pg_wire.h"
#include "inspect/sql/sql.h"

enum pg_phase { PG_STARTUP, PG_LOGIN, PG_READY, PG_DONE };

/* What a message handler says to the loop. */
enum pg_step {
	PG_OK,	  /* all that is there of the message was used */
	PG_NEED,  /* call again with the whole message */
	PG_STALL, /* as INSP_STALL */
	PG_WAIT,  /* as INSP_WAIT */
	PG_END,
	PG_BAD,
};

/* A message of which `all` is there: `total` bytes with its head. */
struct pg_msg {
	uint8_t type;
	bool whole;
	size_t total;
	struct slice all;
	struct slice body; /* as far as it is there */
};

enum pg_rest { PG_REST_PASS, PG_REST_DROP, PG_REST_FILL };

struct pg_dir {
	size_t left;  /* of a message that has been decided on */
	uint8_t rest; /* enum pg_rest: how */
};

/* ------------------------------------------------- statements and portals */

struct pg_obj {
	uint32_t refs;
	bool portal;
	size_t charge; /* bytes that count against PG_OBJECTS_BYTES */
};

/* How a column's values are treated: made of type, format and plan. */
enum pg_act {
	PG_ACT_NONE,
	PG_ACT_FIX,  /* the type's constant, or NULL */
	PG_ACT_HOST, /* text for the host, its output goes on */
	PG_ACT_JSON, /* as HOST; output that is no longer JSON becomes "***" */
	PG_ACT_SCAN, /* text for the host; a hit is replaced as by FIX */
};

struct pg_col {
	uint32_t type;
	bool binary; /* as described; Bind decides for a portal of its own */
	struct insp_plan plan;
};

/* A row description with the host's plans. */
struct pg_desc {
	uint32_t refs;
	uint32_t generation, epoch; /* valid while both are those of the flow */
	uint32_t plan;		    /* insp_shape.id */
	bool active;		    /* some plan does something */
	uint32_t n;
	size_t raw_n; /* the message's body stands behind the columns */
	struct pg_col col[];
};

struct pg_stmt {
	struct pg_obj obj;
	const struct sql_info *info; /* referenced */
	struct pg_stmt *via;	     /* what EXECUTE or FETCH names; referenced */
	bool unresolved;	     /* it names something that is not known */
	bool behind;		     /* ... because that names another one itself */
	bool at_execute, described;  /* described: in batch desc_batch */
	uint32_t desc_batch;
	uint32_t rules; /* that it was judged by: insp_env.rules */
	uint64_t seq;	/* of its EV_STATEMENT */
	struct pg_desc *desc;
	uint32_t text_n, types_n; /* of Parse: text, then parameter types */
	uint8_t bytes[];
};

struct pg_portal {
	struct pg_obj obj;
	struct pg_stmt *stmt; /* referenced */
	bool approved, bound; /* bound: formats are known; approved: it has begun to run */
	bool by_bind;	     /* and not by DECLARE, which runs it */
	bool has_digest;
	uint32_t rules; /* that were in force then: insp_env.rules */
	bool described;	     /* in batch desc_batch */
	uint32_t desc_batch;
	uint8_t digest[32];
	char *params; /* with at_execute: as an approver sees them; owned */
	uint16_t nformats;
	uint8_t formats[];
};

struct pg_slot {
	struct pg_slot *next;
	uint32_t hash;
	struct pg_obj *cur, *confirmed; /* referenced */
	uint32_t pending;		/* entries in the queue that will decide */
	uint32_t batch, serial;		/* of the last change */
	bool portal;
	uint32_t name_n;
	uint8_t name[];
};

struct pg_names {
	struct pg_slot **bucket;
	uint32_t nbucket, n;
	struct pg_slot *unnamed;
};

/* ----------------------------------------------------------------- replies */

/* An ErrorResponse of ours. */
struct pg_local {
	size_t n;
	uint8_t bytes[];
};

enum pg_reply_kind {
	PG_R_QUERY,
	PG_R_PARSE,
	PG_R_BIND,
	PG_R_DESCRIBE_STATEMENT,
	PG_R_DESCRIBE_PORTAL,
	PG_R_EXECUTE,
	PG_R_CLOSE,
	PG_R_SYNC,
	PG_R_FUNCTION,
	PG_R_LOCAL, /* ours: nothing of it is at the server */
};

enum pg_reply_flag {
	PG_RF_INJECTED = 1u << 0, /* the answer is not for the client */
	PG_RF_READY = 1u << 1,	  /* LOCAL: ReadyForQuery follows */
	PG_RF_TX_BEGIN = 1u << 2,
	PG_RF_TX_END = 1u << 3,
	PG_RF_COPY_IN = 1u << 4,
	PG_RF_MULTI = 1u << 5,
	PG_RF_FORGET = 1u << 6, /* on success all prepared statements are gone */
	PG_RF_DDL = 1u << 7,	/* remembered descriptions are void afterwards */
	PG_RF_CHANGE = 1u << 8, /* `slot` becomes `made` on success */
	PG_RF_CLOSE_ALL = 1u << 9, /* on success all portals are gone */
	PG_RF_ERROR = 1u << 10, /* an error came: ReadyForQuery is due */
	PG_RF_ROWS = 1u << 11,	/* rows are described and may come */
	PG_RF_PARAMS = 1u << 12, /* ParameterDescription came */
	PG_RF_COPYING = 1u << 13,
	PG_RF_SHAKY = 1u << 14, /* may change how text is read */
	PG_RF_UNNAMED = 1u << 15, /* a failing Parse drops the unnamed statement */
};

struct pg_reply {
	uint8_t kind;
	uint16_t flags;
	uint32_t batch;
	struct pg_stmt *stmt;
	struct pg_portal *portal;
	struct pg_slot *slot;
	struct pg_obj *made;
	struct pg_local *local; /* LOCAL; of others: in place of the server's error */
};

struct pg_queue {
	struct pg_reply *ring;
	uint32_t head, n, cap;
	uint32_t serial; /* of the head */
};

struct pg {
	const struct insp_env *env;
	struct pg_dir dir[2];
	uint8_t phase;	/* enum pg_phase */
	uint8_t status; /* enum pg_status, of the last ReadyForQuery */
	uint32_t lexer;
	bool server_utf8, client_utf8; /* SQL_LEX_FOREIGN if not both */
	bool shaky;	/* a run may have changed how text is read, and the server has not said */
	uint32_t shaky_batch; /* the last one in which that was */
	uint64_t seq[2]; /* last event of each direction */
	uint64_t asked;	 /* c2s: seq of the open question */
	uint32_t events; /* of this call */
	struct pg_proof *own; /* the login is ours, not the client's */
	uint16_t why;	 /* of PG_BAD and PG_END */

	bool ssl_asked, gss_asked, said_terminate;
	bool auth_seen, auth_due, auth_ok; /* the server asked; the client's answer is due */
	bool defined, unsettled; /* definitions changed, or may have: others may not see it yet */
	bool skip, copy_in; /* client's messages up to Sync are void; the server takes CopyData */
	bool sync_in_hand; /* a Sync in COPY: goes on only if the COPY fails */
	bool await_copy;   /* the entry `await` will tell whether COPY begins */
	bool flushed;	   /* a Flush of ours is behind the last entry */
	uint32_t await;	   /* serial of an entry */
	uint32_t batch;	     /* counts ends of batches */
	uint32_t unsynced;   /* entries since the last end of a batch */
	uint32_t batch_runs; /* Execute among them */
	uint32_t running;    /* QUERY, EXECUTE, FUNCTION in the queue */
	uint32_t begins, ends, syncs, ddls, forgets; /* entries in the queue, by flag */
	uint32_t forget_batch, forget_serial;
	uint32_t epoch;	     /* of remembered descriptions */

	struct pg_queue q;
	struct pg_names stmts, portals;
	struct pg_known *known; /* pg_server.c; NULL: none yet */
	size_t objects_bytes;
	uint32_t objects;
	struct pg_rows rows;
	struct pg_copy *copy; /* pg_copy.h */
	char server_version[32];
	uint64_t queries, denied, masked_values;
};

#endif
