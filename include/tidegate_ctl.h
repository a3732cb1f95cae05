/* SPDX-License-Identifier: MIT */
/*
 * The control socket, between `tidegate` and `tidegated`: a unix stream
 * socket in the run directory. Each message is a little-endian 32-bit length
 * and that many bytes of JSON (an object, at most TG_CTL_MAX bytes).
 *
 * Request:  {"v": 1, "op": "session.list", "args": {...}}
 * Answer:   {"v": 1, "ok": true, "result": ...}
 *       or  {"v": 1, "ok": false, "error": {"code": "not_found", "message": "...", "hint": "..."}}
 * After "session.follow" the daemon sends answers until either side closes.
 *
 * Types: ids of sessions, grants and approvals are strings, ids of targets and
 * agents are numbers (those in the maps); counts, pids and uids are numbers;
 * what ends in _ms is a duration in milliseconds; `since`, `until`, `loaded`
 * and `time` are RFC 3339 in UTC with milliseconds (text_time()), null where
 * there is none. `by` is a string, "uid 0" or a subject of the IdP. Lists are
 * arrays, also when they are empty. A receiver ignores keys that it does not
 * know.
 *
 * `off` of a target says who switched it to another mode than the configured
 * one, whichever. `decided` of an approval is false while more are needed.
 *
 * In the status: workers: [{id, pid, sessions, restarts, before}], before: of
 * the binary before an upgrade; upgrades: how many since the start, upgraded: when; bpf: "on", or why
 * not; idp: {issuer, ok, detail}, null with the built-in approver; kernel:
 * {label of a counter: n}; counters: {label of a reason: n}; warnings:
 * strings; gaps: [{way, text}], what this kernel leaves open; targets_off: elements of target.list; integrity: {changes, repaired, last, faults:
 * [{fault, where, text, since}]} of the kernel side by others, null without BPF.
 *
 * The peer is checked by SO_PEERCRED: root, or a member of admin_group. What
 * an operator does is recorded with the uid.
 */
#ifndef TIDEGATE_CTL_H
#define TIDEGATE_CTL_H

#define TG_CTL_VERSION 1
#define TG_CTL_SOCKET  "control.sock" /* in the run directory */
#define TG_CTL_METRICS "metrics.sock" /* HTTP, Prometheus text */
#define TG_CTL_RUN_DIR "/run/tidegate"
#define TG_AUDIT_FILE  "audit.jsonl" /* in the state directory; older ones end in .1, .2, ... */
#define TG_CTL_CONFIG  "/etc/tidegate/tidegate.yaml"
enum { TG_CTL_MAX = 16 << 20 };

/* X(NAME, "op", "args -> result") */
#define TG_CTL_OPS(X)                                                                              \
	X(STATUS, "status", "-> {version, pid, since, uptime_ms, workers:[], idp:{}, kernel:{}, "   \
			    "bpf, counters:{reason: n}, warnings:[], gaps:[], targets_off:[], integrity:{}}") \
	X(TARGET_LIST, "target.list", "-> [{id, name, protocol, addresses:[], mode, configured_mode, " \
				      "sessions, off:{reason, by, since, until}|null}]")           \
	X(TARGET_SET, "target.set", "{name, mode: steer|block|observe|off|reset, reason?, for_ms?} " \
				    "-> the target")                                               \
	X(AGENT_LIST, "agent.list", "-> [{id, name, cgroups:[], uids:[], sessions}]")              \
	X(SESSION_LIST, "session.list", "{agent?, target?} -> [{id, agent, target, user, database, " \
					"state, pid, exe, comm, cgroup, since, worker, held?, "    \
					"commands, bytes_in, bytes_out, grant}]")                  \
	X(SESSION_SHOW, "session.show", "{id} -> one, with the inspector's own state")             \
	X(SESSION_KILL, "session.kill", "{id, reason?} -> {killed: n}")                            \
	X(SESSION_FOLLOW, "session.follow",                                                        \
	  "{id?} -> {time, session, agent, target, event: open|statement|execute|result|masked|"   \
	  "error|decision|end, data: {...}} as they happen")                                       \
	X(GRANT_LIST, "grant.list", "-> [{id, agent, target, scope, via, by, since, until, sessions, " \
				    "reason?}]")                                                   \
	X(GRANT_CREATE, "grant.create", "{agent, target, for_ms, reason} -> the grant")            \
	X(GRANT_REVOKE, "grant.revoke", "{id, reason?} -> {sessions: n}")                          \
	X(APPROVAL_LIST, "approval.list", "-> [{id, kind: access|statement, agent, target, user, "  \
					  "session, text?, digest?, effect?, rule, approvers:[], " \
					  "min_approvals, approved_by:[], since, until, "          \
					  "in_transaction}]")                                      \
	X(APPROVAL_APPROVE, "approval.approve", "{id, for_ms?, reason?} -> the approval, decided") \
	X(APPROVAL_DENY, "approval.deny", "{id, reason?} -> the approval, decided")                \
	X(DNS_LIST, "dns.list", "-> [{name, host, target, addresses:[], ttl_s, since, seen, until, " \
				"sessions}]")                                                      \
	X(DNS_SHOW, "dns.show", "-> {steering, pid, restarts, servers:[]|file, questions, "        \
				"addresses, log}")                                                 \
	X(POLICY_RELOAD, "policy.reload", "-> {digest, changed}")                                  \
	X(POLICY_SHOW, "policy.show", "-> {file, digest, loaded}")                                 \
	X(DAEMON_UPGRADE, "daemon.upgrade",                                                        \
	  "-> {version, before, pid, sessions, workers_before}, by the new binary once it has taken over")

/* Codes of errors. X(NAME, "code", "when") */
#define TG_CTL_ERRORS(X)                                                                           \
	X(BAD_REQUEST, "bad_request", "not JSON, a wrong type, an unknown or missing argument")    \
	X(UNKNOWN_OP, "unknown_op", "this daemon has no such op")                                  \
	X(VERSION, "version", "v is not the daemon's version of the protocol")                     \
	X(PERMISSION, "permission", "the caller is not root or in admin_group, or may not do this") \
	X(NOT_FOUND, "not_found", "no such target, agent, session, grant or approval")             \
	X(CONFLICT, "conflict", "its state does not allow it: an approval that is decided")        \
	X(TOO_LARGE, "too_large", "the answer would be over TG_CTL_MAX")                           \
	X(FAILED, "failed", "anything else; the message says what")

enum tg_ctl_op {
#define X(name, op, what) TG_CTL_##name,
	TG_CTL_OPS(X)
#undef X
	TG_CTL_OP_COUNT
};

#endif
