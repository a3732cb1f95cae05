/* SPDX-License-Identifier: MIT */
/*
 * One connection of an agent: two legs, an inspector between them, a
 * recording, and the answers it waits for. Invariants:
 *  - bytes reach a leg only after the journal has what describes them;
 *  - nothing is read from a side whose bytes cannot go on;
 *  - a session is freed only when all its handles are closed.
 */
#ifndef TIDEGATE_DAEMON_SESSION_H
#define TIDEGATE_DAEMON_SESSION_H

#include "base/arena.h"
#include "daemon/worker.h"
#include "tidegate_abi.h"

enum session_state {
	SESSION_IDENTIFY, /* the parent is asked who this is */
	SESSION_LOGIN,	  /* the inspector speaks with the client alone */
	SESSION_CONNECT,  /* access is given, the server leg is being opened */
	SESSION_RUN,
	SESSION_END, /* last bytes go out to the client */
	SESSION_DEAD, /* closed; freed after the round */
};

struct catalog_ref; /* catalog_load.c */
struct tls;

struct leg {
	struct direct_fd poll;
	int fd;		 /* -1: none */
	uint16_t events; /* EPOLL* that are watched; 0: none */
	bool eof;	/* read */
	bool shut;	/* written */
	bool connected;
	bool wipe;    /* `out` holds a secret */
	bool urgent;  /* has sent an urgent byte */
	bool lost;    /* it takes nothing any more; what it sent before is still read */
	struct buf in;	/* unread by the inspector */
	struct buf out; /* not yet taken by the kernel */
};

enum ask_kind { ASK_NONE, ASK_ACCESS, ASK_STATEMENT, ASK_CATALOG, ASK_LOGIN };

/* The one question that is open, and its answer. */
struct ask {
	enum ask_kind kind;
	bool answered, in_transaction;
	uint64_t id;  /* of the question to the parent */
	uint64_t seq; /* of the event */
	uint64_t open_seq; /* of the last that the inspector holds bytes for */
	uint64_t until_boot_ns;
	struct insp_answer *answer; /* owned; there while somebody else is asked */
	char *texts;		    /* what the answer's slices point to */
	char *asked;		    /* ASK_ACCESS: what grants_known.h keeps the answer by; or NULL */
};

/* An answer, of the parent or of our own (a denial); kept while the journal has no room for it. */
struct verdict {
	bool own;
	bool shared; /* the grant holds for all who ask the same */
	uint32_t verdict;
	uint16_t reason;
	uint64_t until_boot_ns; /* of the grant */
	char by[128], request[64], grant[HANDLE_TEXT], detail[512];
	struct slice receipt; /* borrowed, or behind this */
};

/* Idle sessions are many: what is needed seldom is allocated then, small fields stand together. */
struct session {
	struct worker *w;
	struct list link;
	struct session *hash_next; /* of the worker's table by uuid */
	struct uuid uuid;
	enum session_state state : 8;
	bool in_turn, doomed; /* ended inside its own turn: acted on at the end of it */
	bool dirty;	      /* numbers changed since they were reported */
	bool waiting[2];      /* a question of this direction is open */
	bool stalled[2];      /* goes on when the other direction has moved */
	bool retry[2];	      /* unread bytes are to be given to the inspector again */
	bool journal_wait;
	bool client_dead;
	bool yielded; /* has had its turn, and has more: next round */
	bool observe; /* the target is only observed: decisions are recorded, not enforced */
	bool steered;
	bool in_netns; /* the sockets of upstream_fd and no others, if they are -1: none */
	bool login_due; /* the parent does not know yet who has logged in */
	bool grant_due; /* nor which grant has let it in */
	bool let_in;	/* access was given */
	bool orphan;	/* its process has ended, and what came last from it was an end */
	bool recorded;	/* there was a recording, which is the journal's now */
	bool server_first; /* of both sides it was the server that ended first */
	bool ddl; /* it was asked for: what the server does with it may come after our end */
	char grant[HANDLE_TEXT];
	uint16_t fatal;	     /* found inside a callback of the inspector: ends the session after it */
	uint16_t end_reason;
	uint16_t no_upstream; /* reason why there are none in upstream_fd */
	uint32_t pid, key; /* for cancel requests */
	uint32_t catalog_generation; /* newest that was asked for because of an unknown table */
	uint64_t copy_boot_ns; /* a COPY waits for a snapshot that is no older */
	struct leg leg[2];    /* indexed by the direction that is read from it */
	struct tls *tls;      /* the server's leg speaks it, or is about to; NULL: it does not */
	uv_timer_t timer;

	struct wview *view;
	struct wconf *conf;
	struct catalog_ref *catalog; /* the snapshot's place, once it was asked for */
	struct list catalog_link; /* among those who wait for a snapshot */
	const struct inspector *insp;
	struct insp_env env;
	void *st;
	struct arena arena;
	struct rec *rec;

	struct ask ask;
	struct verdict *late; /* to be recorded and acted on once there is room */
	uint64_t grant_until_boot_ns;
	struct grace *grace; /* session_end.c; NULL: the time is not over */
	char *upstream; /* "address:port", several with spaces between, or "unix:PATH" */
	int rec_fd; /* the recording's file, until something is recorded or a tick goes by; -1: none */
	bool rec_old; /* since before the last tick */
	/* Unconnected, in the agent's network namespace: for the session, for a cancel request. */
	int upstream_fd[2];
	char *head; /* the recording's header, until something happens that is recorded behind it */
	char *facts; /* JSON from the parent, until it is in the recording, or longer if rules want it */
	const char *user, *database, *application;
	const char *login_as; /* whom Tidegate logs in as; NULL: the agent logs in itself */
	const char *role_facts; /* members of JSON, if that role was made for the grant; or NULL */
	struct slogin *login; /* session_login.c; NULL: none, or it is over */
	struct tg_record *record; /* NULL: not steered, or in the recording already */

	uint64_t sync; /* bytes for the server wait for this sync of the worker */
	uint64_t fin_boot_ns; /* the client has closed its side; since then the server took nothing */
	uint32_t idle_unread; /* sent, and not taken by the peers when it last seemed idle */
	uint64_t run_boot_ns, active_boot_ns; /* since when it runs; last bytes, where that counts */
	uint64_t commands, bytes[2], masked;
	uint64_t result_at, result_masked; /* of what is to be the next RESULT */
	struct plan_memo *plans; /* session_facts.c */
};

/* Ends of the two sides are passed on one by one: see struct inspector. */
static inline bool session_half_closes(const struct session *s)
{
	return s->insp && s->insp->half_close;
}

/* The session's id as text, for log and messages. */
struct session_id {
	char text[UUID_TEXT];
};
struct session_id session_id(const struct session *s);

/* Takes over @fd. @rec NULL: from the gateway listener of @target. */
void session_accept(struct worker *w, int fd, const struct tg_record *rec, const char *target,
		    const char *peer, const char *local);
struct session *session_find(struct worker *w, const struct uuid *u);

/* Answers of the parent. */
void session_facts(struct session *s, struct ipc_msg *m);
void session_answer(struct session *s, struct ipc_msg *m);
/* Tells the client something, where its protocol has a way to; it is in the recording. */
void session_notice(struct session *s, struct slice text);
/* Tells the client that a person is being waited for. */
void session_pending(struct session *s, struct slice request, struct slice words);
void session_socket(struct session *s, struct ipc_msg *m);
void session_cancel(struct session *s);
/* The snapshot that was waited for is there, or cannot be had. */
void session_catalog_ready(struct session *s);

/* Goodbye in the protocol's words; the reason is counted and recorded. */
void session_end(struct session *s, uint16_t reason, const char *words);
/* Both directions go on where they can. */
void session_resume(struct session *s);
/* Gives back the recording's file; it is asked for when there is something to write. */
void session_drop_file(struct session *s);
/* The policy was replaced: ends the session if it is no longer allowed. */
void session_recheck(struct session *s, struct wconf *conf);
/* The last bytes are out, or nobody takes them: closes everything. */
void session_after_end(struct session *s);
void session_describe(struct session *s, struct jsonw *w);
const char *session_state_name(const struct session *s);

/* --- session_io.c */
void leg_init(struct leg *l);
/* What legs have set; on a listener: those that are accepted there have it from it. */
void leg_options(int fd);
/* Begins watching @fd; a client's has its options. */
MUST_CHECK int leg_open(struct session *s, enum insp_dir side, int fd, bool connected);
void leg_update(struct session *s);
/* No event of it any more, until it is updated. */
void leg_stop(struct session *s, enum insp_dir side);
/* Sends what the inspector has put into the outputs of the worker. */
void session_send_outputs(struct session *s);
void session_flush(struct session *s, enum insp_to to);

/* --- session_up.c */
MUST_CHECK int session_connect(struct session *s);
/* Its outcome is known. */
void session_connected(struct session *s);
/* The server can be spoken with: what waits for it goes out. */
void session_running(struct session *s);
/* The target's next address takes the place of one that does not answer; false: there is none. */
bool session_connect_next(struct session *s);
/* Addresses that are left, with the one that is being tried. */
uint32_t session_candidates(const struct session *s);
/* Literal "address:port" or "unix:PATH"; *ret_done (may be NULL): connected already. */
MUST_CHECK int upstream_open(const char *upstream, bool *ret_done);
/* Asks the server to cancel what it does (its own cancel request). */
void session_cancel_upstream(struct session *s);

/* --- session.c */
/* What the parent still works on for this session is not wanted any more; its bytes go on. */
void session_drop_ask(struct session *s);
/* Sets the timer to the next deadline. */
void session_arm(struct session *s);
/* The client has closed its side: it may still read, but not wait for ever. */
void session_fin(struct session *s);

/* --- session_host.c */
extern const struct insp_host session_host;
/* Who has logged in, if the parent was not told yet. */
void session_tell_login(struct session *s);
/* The held statement is refused, as soon as that can be recorded. */
void session_refuse_held(struct session *s, uint16_t reason);
/* Acts on an answer that waited for room in the journal. */
void session_late(struct session *s);

/* Both directions ask again what they wait for. */
void session_go_on(struct session *s);

/* --- catalog_load.c */
struct catalog;
enum catalog_status { CATALOG_READY, CATALOG_LOADING, CATALOG_NONE };
/* Snapshot for the target and database of @s. LOADING: session_catalog_ready() follows. */
enum catalog_status catalog_want(struct session *s, bool fresh, const struct catalog **ret);
/* One whose loading began at @boot_ns or later. */
enum catalog_status catalog_since(struct session *s, uint64_t boot_ns, const struct catalog **ret);
/* Something of the target's catalog was changed through us. */
void catalog_changed(struct session *s);
void catalog_drop_session(struct session *s);
void catalogs_tick(struct worker *w);
/* keyd's answer to a login of the loader; true if the id was one of ours. */
bool catalog_key_answer(struct worker *w, struct ipc_msg *m);

#endif
