/* SPDX-License-Identifier: MIT */
/*
 * Why something was refused, ended or replaced: one list from which the codes,
 * the metric labels, the words in `tidegate status` and the hints to the
 * user derive. A reason is counted wherever it occurs and never renumbered
 * (recordings hold the code): new ones are added at the end.
 *
 * X(NAME, "label", "what happened, for a person", "what to do about it")
 */
#ifndef TIDEGATE_BASE_REASON_H
#define TIDEGATE_BASE_REASON_H

#include <stdint.h>

#define TG_REASONS(X)                                                                              \
	X(NONE, "none", "no reason", "")                                                           \
	X(NO_RULE, "no_rule", "no policy entry allows this agent on this target",                  \
	  "add a policy entry, or ask the administrator of this host")                             \
	X(RULE_DENY, "rule_deny", "denied by a policy rule",                                       \
	  "run `tidegate policy explain` to see the rule")                                         \
	X(APPROVAL_DENIED, "approval_denied", "the approver said no", "ask the approver why")      \
	X(APPROVAL_EXPIRED, "approval_expired", "nobody decided in time",                          \
	  "ask an approver to watch `tidegate approval list`, then try again")                     \
	X(APPROVAL_CANCELLED, "approval_cancelled", "the request was cancelled by the client", "") \
	X(GRANT_EXPIRED, "grant_expired", "the granted time is over", "connect again")             \
	X(GRANT_REVOKED, "grant_revoked", "the grant was revoked by an operator",                  \
	  "ask the operator who revoked it")                                                       \
	X(POLICY_CHANGED, "policy_changed", "the policy no longer allows this session",            \
	  "connect again")                                                                         \
	X(SESSION_KILLED, "session_killed", "the session was ended by an operator", "")            \
	X(IDP_UNREACHABLE, "idp_unreachable", "the identity provider cannot be reached",           \
	  "see `tidegate status`; access returns when the provider does")                          \
	X(IDP_TIMEOUT, "idp_timeout", "the identity provider did not answer in time",              \
	  "see `tidegate status`")                                                                 \
	X(IDP_DENIED, "idp_denied", "the identity provider refused", "ask for the scope there")    \
	X(IDP_BAD_ANSWER, "idp_bad_answer", "the identity provider's answer could not be verified", \
	  "see `tidegate status` for the check that failed")                                       \
	X(NOT_STEERED, "not_steered", "a connection to the daemon that no kernel hook steered",    \
	  "connect to the target's own address")                                                   \
	X(UNKNOWN_AGENT, "unknown_agent", "the caller is no known agent",                          \
	  "add it under agents: in the configuration")                                             \
	X(UNKNOWN_TARGET, "unknown_target", "the address belongs to no target",                    \
	  "add it under targets: in the configuration")                                            \
	X(TARGET_BLOCKED, "target_blocked", "the target is blocked by an operator",                \
	  "run `tidegate target show`")                                                            \
	X(UPSTREAM_REFUSED, "upstream_refused", "the target cannot be reached",                    \
	  "check that the target is up and its address is right")                                  \
	X(UPSTREAM_TIMEOUT, "upstream_timeout", "the target did not answer in time", "")           \
	X(UPSTREAM_CLOSED, "upstream_closed", "the target closed the connection", "")              \
	X(CLIENT_CLOSED, "client_closed", "the client closed the connection", "")                  \
	X(PROTO_BAD, "proto_bad", "a message that breaks the protocol",                            \
	  "check that the target speaks the configured protocol")                                  \
	X(PROTO_LIMIT, "proto_limit", "a message over a configured limit",                         \
	  "raise limits: on the target if the message is legitimate")                              \
	X(PROTO_UNSUPPORTED, "proto_unsupported", "a part of the protocol that is not supported",  \
	  "see the README for what is")                                                            \
	X(TLS_REQUIRED, "tls_required", "the client insists on TLS",                               \
	  "use sslmode=prefer: the leg between client and Tidegate never leaves this host")        \
	X(SQL_UNPARSED, "sql_unparsed", "the statement could not be understood",                   \
	  "rewrite it, or allow `unknown` in a rule")                                              \
	X(SQL_TOO_LONG, "sql_too_long", "the statement is longer than limits.statement_bytes",     \
	  "split it, or raise the limit on the target")                                            \
	X(SQL_TOO_DEEP, "sql_too_deep", "the statement is nested too deeply", "simplify it")       \
	X(MASK_CARRY, "mask_carry", "the statement would copy a masked column out of the mask's reach", \
	  "select it instead, or exempt the agent from the mask")                                  \
	X(MASK_CODE, "mask_code",                                                                  \
	  "the statement defines code or a way to data that column masks could not follow",       \
	  "have an administrator run it, or exempt the agent from the mask")                       \
	X(MASK_VALUE_CAP, "mask_value_cap", "a value over limits.value_bytes was replaced whole",  \
	  "raise limits.value_bytes on the target")                                                \
	X(MASK_UNRESOLVED, "mask_unresolved", "a column whose origin could not be resolved was masked", \
	  "give the target a catalog: login")                                                      \
	X(RECORD_FAILED, "record_failed", "the session could not be recorded",                     \
	  "free space under the recording directory; see `tidegate status`")                       \
	X(SERVER_UNASKED_AUTH, "server_unasked_auth",                                              \
	  "the server let the session in over its socket without asking for authentication",       \
	  "set socket_auth: trust on the target if that is meant")                                 \
	X(NO_MEMORY, "no_memory", "out of memory or over the session's memory budget", "")         \
	X(OVERLOAD, "overload", "too many sessions or waiting requests", "try again later")        \
	X(INTERNAL, "internal", "a part of Tidegate failed", "see the journal of tidegated")       \
	X(SHUTDOWN, "shutdown", "Tidegate is shutting down", "connect again")                      \
	X(WORKER_DIED, "worker_died", "the worker that carried the session died",                  \
	  "see the journal of tidegated")                                                          \
	X(HELD_IN_TRANSACTION, "held_in_transaction",                                              \
	  "the statement waited too long for approval inside an open transaction",                 \
	  "ask for approval outside a transaction, or raise hold_in_transaction")                  \
	X(IN_FAILED_BATCH, "in_failed_batch", "skipped after an error in the same batch", "")      \
	X(CANCEL_UNKNOWN, "cancel_unknown", "a cancel request for no live session of this agent", "") \
	X(NETNS_LIMIT, "netns_limit",                                                              \
	  "an agent is in more network namespaces than namespaces.max: refused in the new one",    \
	  "end what lives in the others, or raise namespaces.max")                                 \
	X(NETNS_FAILED, "netns_failed",                                                            \
	  "no listener could be made in an agent's network namespace: its targets are refused there", \
	  "see the journal of tidegated")                                                          \
	X(NETNS_LO_DOWN, "netns_lo_down",                                                          \
	  "the loopback interface is down in an agent's network namespace: nothing is reached there", \
	  "bring it up (`ip link set lo up`), or set namespaces: { lo: up }")                         \
	X(NETNS_NOT_OURS, "netns_not_ours",                                                        \
	  "a target with netns: agent, and the agent's network namespace is not owned by the initial " \
	  "user namespace: its root may be the agent, and the server a fake",                       \
	  "start the agent in a network namespace that root made, or set netns: daemon on the target") \
	X(PDP_DENIED, "pdp_denied", "the policy decision point refused",                          \
	  "see its own policy and log")                                                           \
	X(PDP_FAILED, "pdp_failed", "the policy decision point did not give a usable answer",      \
	  "see `tidegate status`")                                                                \
	X(NO_TOKEN, "no_token",                                                                    \
	  "the agent has no workload token that is accepted, which the policy or this approval needs", \
	  "see `token` of the agent in tidegate.yaml(5), and the journal of tidegated")            \
	X(UPSTREAM_NAME, "upstream_name", "the target's name cannot be resolved",                  \
	  "see `tidegate dns list` and the name servers of this host")                             \
	X(DNS_MALFORMED, "dns_malformed", "a name look-up that breaks the protocol", "")           \
	X(DNS_UNKNOWN, "dns_unknown", "a name look-up of nobody that was steered", "")             \
	X(DNS_TYPE, "dns_type", "a kind of look-up that is not forwarded", "ask for A or AAAA")    \
	X(DNS_DOH, "dns_doh", "a look-up of a DNS-over-HTTPS service",                             \
	  "agents use the host's own name servers")                                                \
	X(DNS_UPSTREAM, "dns_upstream", "a name server did not answer, or not well",               \
	  "check the name servers of this host, or dns: servers:")                                 \
	X(DNS_REBIND, "dns_rebind", "a target's name led to an address that it must not have",     \
	  "see the journal of tidegated; allow it with dns: allow_special: if that is meant")      \
	X(DNS_FULL, "dns_full", "targets' names have more addresses than can be guarded",          \
	  "give the targets fewer names, or shorten dns: keep:") \
	X(RECEIPT_FAILED, "receipt_failed", "the decision could not be signed for the recording",  \
	  "see the journal of tidegated for what keyd says of its key")                            \
	X(IDP_REVOKED, "idp_revoked", "the identity provider ended what it had granted",           \
	  "ask the identity provider's administrator, then connect again")                         \
	X(CREDENTIAL_MISSING, "credential_missing",                                                \
	  "Tidegate has no usable credential for this target",                                     \
	  "see the journal of tidegated: the file, or the program that tells it, has failed")      \
	X(CREDENTIAL_REFUSED, "credential_refused", "the target does not accept Tidegate's credential", \
	  "see the journal of tidegated for the target's own words")                               \
	X(CREDENTIAL_METHOD, "credential_method",                                                  \
	  "the target asks for a kind of login that Tidegate's credential is not used for",        \
	  "have it ask for scram-sha-256, or set clear_text: true on the credential")              \
	X(CREDENTIAL_UNPROVED, "credential_unproved",                                              \
	  "the target did not prove that it knows Tidegate's credential",                          \
	  "check that the address leads to the real server")                                       \
	X(CREDENTIAL_UNASKED, "credential_unasked",                                                \
	  "the target lets Tidegate's user in without asking for a password",                      \
	  "have pg_hba.conf ask for scram-sha-256: anybody who reaches it gets in")                \
	X(FACTS_UNKNOWN, "facts_unknown",                                                          \
	  "what the policy asks about the agent's process is not known",                           \
	  "see `when` in tidegate.yaml(5); a process that has ended cannot be looked at")          \
	X(CREDENTIAL_NO_TOKEN, "credential_no_token",                                              \
	  "there is no token of the identity provider to log in to this target with",              \
	  "connect again; see grant_token in tidegate.yaml(5) for which way of approval gives one")                 \
	X(SESSION_BYTES, "session_bytes", "the session carried all the bytes that limits.bytes allows", \
	  "connect again, or raise the limit on the target")                                       \
	X(SESSION_TIME, "session_time", "the session lasted as long as limits.time allows",        \
	  "connect again, or raise the limit on the target")                                       \
	X(SESSION_IDLE, "session_idle", "the session carried nothing for as long as limits.idle allows", \
	  "connect again, or raise the limit on the target")                                       \
	X(PROCESS_GONE, "process_gone",                                                            \
	  "the process that opened the connection has ended, and its socket lives on elsewhere",   \
	  "connect from the process that goes on, or set `process_gone: keep` on the agent")       \
	X(TOKEN_EXPIRED, "token_expired",                                                          \
	  "the agent's workload token has ended, and no newer one was found in its place",         \
	  "see that the token is renewed in time, then connect again")                             \
	X(RECHECK_FAILED, "recheck_failed",                                                        \
	  "the identity provider could not confirm for too long that what it granted still holds", \
	  "see `tidegate status` and `recheck_tolerance` in tidegate.yaml(5), then connect again")            \
	X(ROLE_FAILED, "role_failed", "no role could be made on the target for this access",       \
	  "see the journal of tidegated, and ephemeral_role in tidegate.yaml(5)")                  \
	X(ROLE_LEFT, "role_left", "a role that is over could not be dropped, and will be tried again", \
	  "see `tidegate status` for which, and why")                                              \
	X(HINT_UNUSABLE, "hint_unusable",                                                          \
	  "whom the identity provider is to ask cannot be said: the login's user or database does not " \
	  "fit into the approval's login_hint",                                                    \
	  "log in with a plain, shorter user and database name")                                   \
	X(UPSTREAM_NO_TLS, "upstream_no_tls", "the target does not offer TLS, without which it is not used", \
	  "switch it on there (PostgreSQL: ssl = on), or set tls: { mode: off } on the target")    \
	X(UPSTREAM_CERTIFICATE, "upstream_certificate", "the target's certificate is not accepted", \
	  "check ca_file, server_name and pin under tls: on the target, and the server's certificate") \
	X(UPSTREAM_TLS, "upstream_tls", "TLS with the target failed",                              \
	  "see the journal of tidegated, and the server's log")

enum tg_reason {
#define X(name, label, what, todo) TG_R_##name,
	TG_REASONS(X)
#undef X
	TG_R_COUNT
};

/* Metric label, e.g. "rule_deny"; "unknown" for a code that is not in the list. */
const char *reason_label(uint16_t reason);
/* What happened, in words. */
const char *reason_what(uint16_t reason);
/* What to do about it; may be empty. */
const char *reason_todo(uint16_t reason);

#endif
