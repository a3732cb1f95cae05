/* SPDX-License-Identifier: MIT */
/*
 * Messages between the processes of the daemon: a star with the parent in the
 * middle, one SOCK_SEQPACKET pair to each child. A message is a head and a
 * list of typed fields, read with strict getters in the order they were put: a getter
 * of another type, or one too many, makes the message bad, and ipc_end()
 * says so. A child that sends a bad message is killed.
 */
#ifndef TIDEGATE_DAEMON_IPC_H
#define TIDEGATE_DAEMON_IPC_H

#include <uv.h>

#include "base/compiler.h"
#include "base/ident.h"
#include "base/slice.h"

enum {
	IPC_VERSION = 1,
	IPC_MAX = 60 * 1024, /* bytes of one message */
	IPC_MAX_FDS = 4,
	IPC_CHILD_FD = 3, /* where a child finds its end */
	STATEMENT_SHOWN = 8192, /* bytes of a statement that approvers see */
};

/*
 * X(NAME, "fields"). P parent, W worker, K keyd, A authd, R named, O roled. `id` is in the head:
 * it ties an answer to its question. After an upgrade the parent talks with children of the
 * binary before, so a released message is not changed, and new ones go to the end: else a
 * graceful upgrade from that release is refused (see handover_spec()).
 */
#define IPC_TYPES(X)                                                                               \
	/* starting and stopping */                                                                \
	X(INIT, "P>* u32 index, str role, fds: see the role")                                      \
	X(READY, "*>P")                                                                            \
	X(CONFIG, "P>* u64 generation, fd: memfd with the text of the configuration")              \
	X(LISTENER, "P>W,R u32 kind, str target, u64 netns cookie or 0, fd: listening socket")       \
	X(LISTENER_CLOSE, "P>W str target: its gateway listener is not to be used any more")       \
	X(LISTENER_GONE, "P>W,R u64 netns cookie: close those of this namespace")                    \
	X(DRAIN, "P>* stop accepting; exit when the last session is over")                         \
	/* sessions */                                                                             \
	X(SESSION_OPEN, "W>P uuid, bytes tg_record, str peer, str local, u32 by_owner, str target") \
	X(SESSION_FACTS, "P>W uuid, u32 reason, str agent, str target, str upstream, "            \
			 "str facts_json, u32 file_error, u32 n sockets, u32 reason why none, "    \
			 "fd?: file, n * fd: unconnected, in the agent's network namespace")       \
	X(SOCKET_ASK, "W>P uuid: one more of these")                                               \
	X(SOCKET, "P>W uuid, fd?")                                                                 \
	X(SESSION_LOGIN, "W>P uuid, str user, str database, str application, str login_as, u32 pid, "  \
			 "u32 key")                                                                \
	X(SESSION_KEY, "W>P uuid, u32 pid, u32 key")                                               \
	X(SESSION_STATS, "W>P uuid, str state, u64 commands, u64 in, u64 out, u64 masked")         \
	X(SESSION_CLOSE, "W>P uuid, u32 reason, u64 commands, u64 in, u64 out, u64 masked")        \
	X(SESSION_KILL, "P>W uuid, u32 reason, str words")                                         \
	X(SESSION_SHOW, "P>W uuid -> W>P id, str json")                                            \
	X(FOLLOW, "P>W u32 on")                                                                    \
	X(EVENT, "W>P str json")                                                                   \
	/* access and approval */                                                                  \
	X(ACCESS_ASK, "W>P id, uuid, str ways (empty: people here), str scope, u64 max_ms, "       \
		      "u64 hold_ms, str rule, u32 min, u32 n, n * str approver")                    \
	X(STATEMENT_ASK, "W>P id, uuid, str text, bytes digest, str effect, str rule, u64 hold_ms, " \
			 "u32 in_transaction, str way (empty: people here), u32 min, u32 n, "      \
			 "n * str approver")                                                       \
	X(ASK_CANCEL, "W>P id, uuid")                                                              \
	X(ANSWER, "P>W id, uuid, u32 verdict, u32 reason, str by, str request, str grant, "        \
		  "u64 until_boot_ns, str detail, bytes receipt, u32 it holds for all who ask the same")                                  \
	X(PENDING, "P>W id, uuid, str request, str words: a person is being waited for")           \
	X(GRANT_END, "P>W str grant, u32 reason, str words")                                       \
	X(CANCEL_ASK, "W>P u32 pid, u32 key, str agent")                                           \
	X(CANCEL_DO, "P>W uuid")                                                                   \
	X(TARGET_MODE, "P>W str target, u32 mode")                                                 \
	/* recordings */                                                                           \
	X(FILE_NEED, "W>P uuid")                                                                   \
	X(FILE, "P>W uuid, u32 error, fd?")                                                        \
	X(ADOPT, "P>W uuid, u32 reason: a recording of a dead process is to be completed")         \
	/* keyd: the answers carry the same id. A target here is one with a catalog login, or       \
	 * "@NAME:USER": what KEY_LOGIN told about a credential. */                                 \
	X(KEY_PASSWORD, "W>P>K id, str target -> K>P>W id, u32 error, bytes password")             \
	X(KEY_MD5, "W>P>K id, str target, str user, bytes salt -> id, u32 error, bytes response")  \
	X(KEY_SCRAM, "W>P>K id, str target, bytes client_first_bare, bytes server_first, "         \
		     "bytes client_final_without_proof -> id, u32 error, bytes proof, "            \
		     "bytes server_signature")                                                     \
	X(KEY_LOGIN, "W>P>K id, str credential -> id, u32 error, bytes user")                      \
	X(KEY_CLIENT, "A>P>K id, str audience (empty: the secret) -> id, u32 error, bytes credential") \
	X(RECEIPT_KEY, "K>P str name, str PEM of its public part: before READY, if there is one")  \
	X(RECEIPT_SIGN, "P>K id, bytes body -> K>P id, u32 error, bytes signature")                \
	X(KEY_STALE, "W>P>K str credential: a server did not take what keyd told last")            \
	X(KEY_GONE, "P>W,O keyd is gone: what it was asked has to be asked again")                   \
	X(PLUGIN_ASK, "K>P str credential: its program is to be run")                              \
	X(PLUGIN_DONE, "P>K str credential, u32 error, fd?: the pipe it has written to")           \
	/* authd */                                                                                \
	X(IDP_ASK, "P>A id, see idp_ask.h -> A>P id, u32 reason, u64 ttl_ms, str scope, "          \
		   "str subject, str token_digest, str detail, str evidence")                      \
	X(IDP_PENDING, "A>P id, str words, str code, str uri: a person is being waited for")       \
	X(EVENTS, "P>A fd?: listening socket for the provider's events; none: there is none")      \
	X(IDP_EVENT, "A>P str kind, str issuer, str subject, str session: one of them is empty")   \
	X(IDP_CANCEL, "P>A id")                                                                    \
	X(IDP_STATE, "P>A id -> A>P id, str json")                                                 \
	X(TOKEN_CHECK, "P>A id, str agent, bytes token -> A>P id, u32 reason, str detail, "        \
		       "str digest, str claims: JSON object")                                      \
	/* named (R) */                                                                            \
	X(DNS_HOST, "P>R str text: the host's resolv.conf")                                        \
	X(DNS_AGENT, "P>R u32 id, str name")                                                       \
	X(DNS_LOG, "P>R fd: the file that look-ups are recorded in")                               \
	X(DNS_LEARN, "R>P id, u32 ttl_s, u32 n, n * {str name, str host}, "                        \
		     "bytes addresses of 16 -> P>R id, u32 reason")                                \
	X(DNS_RESOLVE, "P>R id, str name, str host -> R>P id, u32 error, bytes addresses of 16")   \
	X(DNS_ROUND, "R>P each name of a target was looked up once")                             \
	/* an upgrade: this worker is of the binary before */                                      \
	X(RETIRE, "P>W accept no more, keep the sessions; exit when the last is over and recorded. "  \
		  "P>R take no more questions")                                                    \
	/* logins with what belongs to one grant: keyd has it under the number of the question    \
	 * that it is the answer to, and tells a name for it that nobody can guess */              \
	X(GRANT_LOGIN, "W>P id, uuid, str credential -> P>W id, u32 error, u32 reason, str user, " \
		       "str key: a target for KEY_SCRAM and its like, str words")                  \
	X(GRANT_STALE, "W>P uuid: the server does not take what the session logs in with")         \
	X(GRANT_TOKEN, "A>P>K id of the question, str user, u64 ttl_ms, bytes token: before the answer") \
	X(GRANT_KEY, "P>K id, u64 question, str credential, u32 the server is on this host -> "    \
		     "K>P id, u32 error, bytes user, bytes key")                                       \
	X(GRANT_FORGET, "P>K id of the question")                                                       \
	/* keyd and authd again */                                                                 \
	X(KEY_TLS, "A>P>K id, u32 scheme, str digest, bytes SHA-256 of the certificate, bytes text " \
		   "-> id, u32 error, bytes signature")                                                \
	X(SESSION_ORPHAN, "P>W uuid: the process that made the connection has ended")             \
	X(KEY_DPOP, "A>P>K id, str url, str nonce -> id, u32 error, bytes proof, bytes thumb of its key") \
	X(RECHECK_TOKEN, "A>P id of the question, str way, bytes token: before the answer")       \
	X(RECHECK, "P>A id, str way, str agent, str scope, bytes token -> "                        \
		   "A>P id, u32 reason, u64 ttl_ms, str words")                                       \
	/* roles that live as long as a grant; O: roled */                                         \
	X(ROLE_KEY, "P>K id, u64 number, str role, u64 ttl_ms -> K>P id, u32 error, "              \
		    "bytes verifier: the password itself is kept as a grant's token is")           \
	X(ROLE_JOB, "P>O id, see role_job.h -> O>P id, u32 error, str sqlstate, str words, "       \
		    "str upstream that was asked, u32 n, n * str role")     \
	X(ISSUER_STATE, "P>A id -> A>P id, str json: those of agents' tokens")                     \
	X(GRANT_USED, "W>P uuid, str grant: that holds for all who ask the same")                  \
	X(SESSION_TOKEN, "P>W uuid, bytes json: the agent's newer token, for the recording") \
	/* TLS with targets; `target` as with KEY_SCRAM, of a credential with a certificate */     \
	X(TRUST, "P>W,O fd: memfd with what targets' ca_file hold, JSON: of the CONFIG that follows") \
	X(KEY_CERTIFICATE, "W>P>K id, str target -> id, u32 error, bytes certificates in DER form") \
	X(KEY_PROVE, "W>P>K id, str target, u32 scheme, str digest, bytes SHA-256 of the certificate, " \
		     "bytes text -> id, u32 error, bytes signature")

enum ipc_type {
#define X(name, fields) IPC_##name,
	IPC_TYPES(X)
#undef X
	IPC_TYPE_COUNT
};

enum ipc_listener_kind {
	IPC_LISTEN_STEERED,
	IPC_LISTEN_GATEWAY,
	IPC_LISTEN_DNS_UDP, /* to named, as the next */
	IPC_LISTEN_DNS_TCP,
};

struct ipc;

/* A received message; valid during the callback. Descriptors not taken are closed. */
struct ipc_msg {
	enum ipc_type type;
	uint64_t id;
	const uint8_t *p, *end; /* unread fields */
	struct slice raw;	/* all fields, for forwarding */
	int fds[IPC_MAX_FDS];
	unsigned nfds, nfds_taken;
	bool bad;
};

struct ipc_ops {
	void (*message)(void *ctx, struct ipc *ipc, struct ipc_msg *m);
	/* The other side is gone or sent what cannot be read (@bad). Last callback. */
	void (*closed)(void *ctx, struct ipc *ipc, bool bad);
};

/* Takes over @fd. */
MUST_CHECK int ipc_new(uv_loop_t *loop, int fd, const struct ipc_ops *ops, void *ctx,
		       struct ipc **ret);
/* closed() of a child: nobody wants its answers any more, and the process ends. */
void ipc_parent_gone(void *ctx, struct ipc *ipc, bool bad);
/* Safe inside a callback. */
void ipc_free(struct ipc *ipc);
/* What a process that is gone has said before: each message, then closed(). */
void ipc_finish(struct ipc *ipc);
/* A SEQPACKET pair, close-on-exec, with room for large messages. */
MUST_CHECK int ipc_pair(int ret_fds[2]);

/* --- sending: begin, put fields, send. One message at a time. */
void ipc_begin(struct ipc *ipc, enum ipc_type type, uint64_t id);
void ipc_put_u32(struct ipc *ipc, uint32_t v);
void ipc_put_u64(struct ipc *ipc, uint64_t v);
/* Longer strings are cut to what still fits, at a UTF-8 boundary. */
void ipc_put_str(struct ipc *ipc, const char *s);
void ipc_put_slice(struct ipc *ipc, struct slice s);
/* Never cut: too long is a bug of the caller. */
void ipc_put_bytes(struct ipc *ipc, struct slice s);
void ipc_put_uuid(struct ipc *ipc, const struct uuid *u);
/* The descriptor is duplicated by the kernel; the caller keeps his. */
void ipc_put_fd(struct ipc *ipc, int fd);
/* Queues if the socket is full. Errors end the connection through closed(). */
void ipc_send(struct ipc *ipc);
/* Sends @m on as it came (without descriptors) under another id. */
void ipc_forward(struct ipc *ipc, const struct ipc_msg *m, uint64_t id);
/*
 * Sends what has been put and waits for the answer of the same type and id, for up to @ms: for what
 * a library asks for in the middle of its work. What else comes in meanwhile is given to message()
 * later, from the loop, in its order. 0: @take was called; -ETIMEDOUT; -EPIPE: nobody is there.
 */
typedef void ipc_take_fn(void *ctx, struct ipc_msg *m);
MUST_CHECK int ipc_call(struct ipc *ipc, int ms, ipc_take_fn *take, void *ctx);

/* --- receiving */
/* Reads the head of a packet; false: it is no message. What the endpoint does itself. */
MUST_CHECK bool ipc_parse(struct slice packet, struct ipc_msg *m);
uint32_t ipc_get_u32(struct ipc_msg *m);
uint64_t ipc_get_u64(struct ipc_msg *m);
struct slice ipc_get_str(struct ipc_msg *m);   /* borrowed */
struct slice ipc_get_bytes(struct ipc_msg *m); /* borrowed */
struct uuid ipc_get_uuid(struct ipc_msg *m);
/* The next descriptor, now the caller's, or -1: none was sent, or this process has no room. */
int ipc_get_fd(struct ipc_msg *m);
/* All fields were read and had the right type. */
MUST_CHECK bool ipc_end(const struct ipc_msg *m);

const char *ipc_type_name(enum ipc_type type);

/* --- over an upgrade */
int ipc_fd(const struct ipc *ipc);
/* Nothing waits to be sent: tries to for up to @ms. */
MUST_CHECK bool ipc_flushed(struct ipc *ipc, int ms);
/* The other side knows only the first @n types: what it does not know is not sent. */
void ipc_limit(struct ipc *ipc, uint32_t n);
uint32_t ipc_known(const struct ipc *ipc);
/* What the first @n types look like, their fields included, as a number. */
uint64_t ipc_types_hash(uint32_t n);

/* --- the roles; each is run in a process of its own with IPC_CHILD_FD as its end */
int worker_main(void);
int keyd_main(void);
int authd_main(void);
int named_main(void);
int roled_main(void);

#endif
