/* SPDX-License-Identifier: MIT */
#include "config/cfgkeys.h"

#include "base/compiler.h"
#include "config/cfgtake.h"
#include "config/config.h"

#define AT(type, member)     .off = offsetof(struct type, member)
#define AT_N(type, member)   .off = offsetof(struct type, member), .off_n = offsetof(struct type, n##member)
#define DURATION(lo, hi)     .kind = KEY_DURATION, .min = (lo), .max = (hi)
#define SIZE(lo, hi)	     .kind = KEY_SIZE, .min = (lo), .max = (hi)
#define COUNT(lo, hi)	     .kind = KEY_COUNT, .min = (lo), .max = (hi)
#define CUSTOM(fn)	     .kind = KEY_CUSTOM, .take = (fn)
#define SUB(s)		     .kind = KEY_SECTION, .section = &(s)
#define SECTION(title_, k)   {.title = (title_), .keys = (k), .nkeys = ARRAY_SIZE(k)}
#define NOT_HERE(name_, key) {.name = (name_), .kind = KEY_REFUSED, .help = "secrets are kept out of this file; put it into a file of its own and name that with `" key "`"}

#define SECOND 1000ull
#define MINUTE (60 * SECOND)
#define HOUR   (60 * MINUTE)
#define DAY    (24 * HOUR)
#define KIB    1024ull
#define MIB    (1024 * KIB)
#define GIB    (1024 * MIB)

static const char *const auth_words[] = {
	[IDP_AUTH_SECRET_BASIC] = "client_secret_basic",
	[IDP_AUTH_SECRET_POST] = "client_secret_post",
	[IDP_AUTH_PRIVATE_KEY_JWT] = "private_key_jwt",
	[IDP_AUTH_TLS] = "tls_client_auth",
	[IDP_AUTH_TLS_SELF_SIGNED] = "self_signed_tls_client_auth",
	NULL,
};
static const char *const dpop_words[] = {
	[IDP_DPOP_AUTO] = "auto",
	[IDP_DPOP_ON] = "on",
	[IDP_DPOP_OFF] = "off",
	NULL,
};
static const char *const introspection_words[] = {[false] = "client", [true] = "bearer", NULL};
static const char *const name_words[] = {
	[IDP_NAME_TOKEN] = "token",
	[IDP_NAME_USERINFO] = "userinfo",
	[IDP_NAME_INTROSPECTION] = "introspection",
	NULL,
};
static const char *const key_alg_words[] = {"ES256", "PS256", "RS256", NULL};
const char *const cfg_mode_words[] = {
	[TARGET_STEER] = "steer",
	[TARGET_BLOCK] = "block",
	[TARGET_OBSERVE] = "observe",
	[TARGET_OFF] = "off",
	NULL,
};
static const char *const way_words[] = {
	[WAY_CLIENT_CREDENTIALS] = "client_credentials",
	[WAY_TOKEN_EXCHANGE] = "token_exchange",
	[WAY_CIBA] = "ciba",
	[WAY_DEVICE] = "device",
	[WAY_INTROSPECTION] = "introspection",
	[WAY_AUTHZEN] = "authzen",
	[WAY_SAML_BEARER] = "saml_bearer",
	[WAY_SAML] = "saml",
	NULL,
};
static const char *const binding_words[] = {
	[BINDING_LONG] = "long",
	[BINDING_SHORT] = "short",
	[BINDING_NONE] = "none",
	NULL,
};
static const char *const delivery_words[] = {
	[DELIVERY_POLL] = "poll",
	[DELIVERY_PING] = "ping",
	NULL,
};
static const char *const tls_words[] = {[false] = "off", [true] = "verified", NULL};
static const char *const tls_version_words[] = {[false] = "1.2", [true] = "1.3", NULL};
static const char *const socket_auth_words[] = {[false] = "required", [true] = "trust", NULL};
static const char *const netns_words[] = {[false] = "daemon", [true] = "agent", NULL};
static const char *const lo_words[] = {[false] = "leave", [true] = "up", NULL};
static const char *const durability_words[] = {
	[DURABLE_PROCESS] = "process",
	[DURABLE_DISK] = "disk",
	NULL,
};
static const char *const steer_words[] = {
	[DNS_STEER_AUTO] = "auto",
	[DNS_STEER_ON] = "on",
	[DNS_STEER_OFF] = "off",
	NULL,
};
static const char *const doh_words[] = {[false] = "allow", [true] = "block", NULL};
static const char *const bpf_words[] = {
	[BPF_AUTO] = "auto",
	[BPF_ON] = "on",
	[BPF_OFF] = "off",
	NULL,
};
static const char *const accelerate_words[] = {
	[ACCELERATE_AUTO] = "auto",
	[ACCELERATE_ON] = "on",
	[ACCELERATE_OFF] = "off",
	NULL,
};
static const char *const ends_words[] = {
	[ACCEL_ENDS_AUTO] = "auto",
	[ACCEL_ENDS_REQUESTS] = "requests",
	[ACCEL_ENDS_BOTH] = "both",
	NULL,
};
static const char *const do_words[] = {
	[RULE_ALLOW] = "allow",
	[RULE_APPROVE] = "approve",
	[RULE_DENY] = "deny",
	NULL,
};
static const char *const log_words[] = {"error", "warning", "notice", "info", "debug", NULL};

static const struct cfg_key client_keys[] = {
	{.name = "id", .kind = KEY_STRING, AT(cfg_idp, client_id), .required = true,
	 .help = "Tidegate's client identifier at the provider"},
	{.name = "auth", .kind = KEY_ENUM, AT(cfg_idp, auth), .words = auth_words,
	 .dflt = "private_key_jwt", .help = "how Tidegate proves who it is at the token endpoint"},
	{.name = "secret_file", .kind = KEY_PATH, AT(cfg_idp, secret_file),
	 .help = "file with the client secret"},
	{.name = "key_file", .also = "key", .kind = KEY_PATH, AT(cfg_idp, key_file),
	 .help = "PEM file with the private key of private_key_jwt or of the certificate"},
	{.name = "certificate_file", .kind = KEY_PATH, AT(cfg_idp, certificate_file),
	 .help = "PEM file with the certificate of tls_client_auth or self_signed_tls_client_auth, and "
		 "those behind it"},
	{.name = "algorithm", .kind = KEY_WORD, AT(cfg_idp, key_alg), .words = key_alg_words,
	 .dflt = "ES256", .help = "signature of private_key_jwt"},
	{.name = "key_id", .kind = KEY_STRING, AT(cfg_idp, key_id),
	 .help = "kid in the header of private_key_jwt"},
	NOT_HERE("secret", "secret_file"),
	NOT_HERE("client_secret", "secret_file"),
};
static const struct cfg_section client_section = SECTION("client", client_keys);

static const struct cfg_key idp_keys[] = {
	{.name = "issuer", .kind = KEY_STRING, AT(cfg_idp, issuer), .required = true,
	 .help = "the provider's issuer identifier, an https URL"},
	{.name = "client", SUB(client_section), .required = true,
	 .help = "how Tidegate is registered at the provider"},
	{.name = "audience", .kind = KEY_STRING, AT(cfg_idp, audience),
	 .help = "expected `aud` of tokens; without it the client's id"},
	{.name = "resource", .kind = KEY_STRING, AT(cfg_idp, resource),
	 .help = "resource parameter of token requests (RFC 8707)"},
	{.name = "details_type", .kind = KEY_STRING, AT(cfg_idp, details_type),
	 .help = "type of authorization_details that name the agent (RFC 9396); tokens must carry "
		 "them"},
	{.name = "ca_file", .kind = KEY_PATH, AT(cfg_idp, ca_file),
	 .help = "PEM file with the authorities to trust instead of the system's"},
	{.name = "events", .kind = KEY_STRING, AT(cfg_idp, events),
	 .help = "loopback address and port on which the provider's logout tokens and security "
		 "events are taken"},
	{.name = "events_audience", .kind = KEY_STRING, AT(cfg_idp, events_audience),
	 .help = "expected `aud` of events; without it the client's id"},
	{.name = "extra_origins", .kind = KEY_STRINGS, AT(cfg_idp, extra_origins),
	 .help = "where the provider's endpoints may lie besides the issuer's own origin, as "
		 "https://HOST[:PORT]"},
	{.name = "assertion_audience", .kind = KEY_STRING, AT(cfg_idp, assertion_audience),
	 .help = "`aud` of private_key_jwt; without it the token endpoint's URL"},
	{.name = "introspection", .kind = KEY_FLAG, AT(cfg_idp, introspect_bearer),
	 .words = introspection_words, .dflt = "client",
	 .help = "how Tidegate proves who it is at the introspection endpoint: as at the token endpoint "
		 "(client), or with a token that it gets there for that (bearer)"},
	{.name = "introspection_scope", .kind = KEY_STRING, AT(cfg_idp, introspect_scope),
	 .help = "scope of the token of `introspection: bearer`"},
	{.name = "name_claim", .kind = KEY_STRING, AT(cfg_idp, name_claim),
	 .help = "claim that tells who an approver or an agent is; without it `sub`"},
	{.name = "name_from", .kind = KEY_ENUM, AT(cfg_idp, name_from), .words = name_words,
	 .dflt = "token", .help = "where that claim is: in the tokens (token), or in what userinfo or "
				  "introspection says of them"},
	{.name = "dpop", .kind = KEY_ENUM, AT(cfg_idp, dpop), .words = dpop_words, .dflt = "auto",
	 .help = "whether tokens are bound to a key of Tidegate's (RFC 9449): where the provider can "
		 "(auto), always, or an answer is no approval (on), or never (off)"},
	{.name = "algorithms", .kind = KEY_STRINGS, AT(cfg_idp, algorithms),
	 .help = "signature algorithms that tokens may use"},
	{.name = "timeout", DURATION(100, MINUTE), AT(cfg_idp, timeout_ms), .dflt = "5s",
	 .help = "longest duration of one request"},
	{.name = "clock_skew", DURATION(0, 10 * MINUTE), AT(cfg_idp, skew_ms), .dflt = "30s",
	 .help = "tolerance when the times in a token are checked"},
	{.name = "recheck", DURATION(SECOND, DAY), AT(cfg_idp, recheck_ms),
	 .help = "approval: idp: how often the provider is asked whether the token of a grant is still "
		 "good (RFC 7662)"},
	{.name = "recheck_tolerance", DURATION(0, DAY), AT(cfg_idp, recheck_tolerance_ms), .dflt = "2m",
	 .help = "how long the provider may fail to answer that before the grant ends"},
	{.name = "allow_http", .kind = KEY_BOOL, AT(cfg_idp, allow_http), .dflt = "false",
	 .help = "the issuer may be an http URL on a loopback address, for tests"},
	NOT_HERE("secret", "client: { secret_file: ... }"),
	NOT_HERE("client_secret", "client: { secret_file: ... }"),
};
const struct cfg_section cfg_idp_section = SECTION("idp", idp_keys);

static const char *const outlive_words[] = {[false] = "close", [true] = "keep", NULL};
static const char *const default_words[] = {[false] = "allow", [true] = "deny", NULL};
const char *const cfg_unix_words[] = {
	[UNIX_GUARD] = "guard",
	[UNIX_LISTED] = "listed",
	[UNIX_OPEN] = "open",
	NULL,
};

static const struct cfg_key token_keys[] = {
	{.name = "file", .kind = KEY_PATH, AT(cfg_token, file),
	 .help = "path in the agent's own mount namespace"},
	{.name = "env", .kind = KEY_STRING, AT(cfg_token, env),
	 .help = "name of an environment variable that the agent was started with"},
	{.name = "issuer", .kind = KEY_STRING, AT(cfg_token, issuer),
	 .help = "who must have issued it, an https URL; without it the issuer of `idp`"},
	{.name = "audience", .kind = KEY_STRING, AT(cfg_token, audience),
	 .help = "expected `aud`; without it that of `idp`"},
	{.name = "algorithms", .kind = KEY_STRINGS, AT(cfg_token, algorithms),
	 .help = "signature algorithms that it may use"},
	{.name = "ca_file", .kind = KEY_PATH, AT(cfg_token, ca_file),
	 .help = "PEM file with the authorities to trust instead of the system's"},
	{.name = "extra_origins", .kind = KEY_STRINGS, AT(cfg_token, extra_origins),
	 .help = "where the issuer's keys may lie besides its own origin"},
	{.name = "allow_http", .kind = KEY_BOOL, AT(cfg_token, allow_http), .dflt = "false",
	 .help = "the issuer may be an http URL on a loopback address, for tests"},
};
const struct cfg_section cfg_token_section = SECTION("token", token_keys);

static const struct cfg_key agent_keys[] = {
	{.name = "cgroup", .kind = KEY_STRINGS, AT_N(cfg_agent, cgroups),
	 .help = "cgroup paths below the cgroup v2 root; their descendants belong to them"},
	{.name = "uid", CUSTOM(cfg_take_uids), .help = "user ids, as numbers"},
	{.name = "source", .kind = KEY_STRINGS, AT_N(cfg_agent, sources),
	 .help = "networks from which the agent reaches a `listen` address"},
	{.name = "default", .kind = KEY_FLAG, AT(cfg_agent, deny), .words = default_words,
	 .dflt = "allow", .help = "whether the agent reaches what is no target (allow), or only what "
				  "`allow` lists (deny)"},
	{.name = "allow", CUSTOM(cfg_take_allow),
	 .help = "what the agent reaches besides targets where its default is deny"},
	{.name = "unix", .kind = KEY_ENUM, AT(cfg_agent, unix_mode), .words = cfg_unix_words,
	 .dflt = "guard", .help = "AF_UNIX sockets: refuse those that lead round the gate (guard), all "
				  "but `unix_allow` (listed), or none (open)"},
	{.name = "unix_allow", .kind = KEY_STRINGS, AT_N(cfg_agent, unix_allow),
	 .help = "AF_UNIX paths that the agent may connect to"},
	{.name = "unix_refuse", .kind = KEY_STRINGS, AT_N(cfg_agent, unix_refuse),
	 .help = "AF_UNIX paths that are refused besides those that Tidegate knows"},
	{.name = "process_gone", .kind = KEY_FLAG, AT(cfg_agent, outlives), .words = outlive_words,
	 .dflt = "close", .help = "what happens to a session whose process has ended while another one "
				  "holds its socket: close or keep"},
	{.name = "token", CUSTOM(cfg_take_token), .section = &cfg_token_section,
	 .help = "where the agent's own workload token is, and whose it must be; a path alone stands "
		 "for `{ file: PATH }`"},
};
const struct cfg_section cfg_agent_section = SECTION("agent", agent_keys);

static const char *const saml_form_words[] = {[false] = "assertion", [true] = "response", NULL};
static const struct cfg_key saml_keys[] = {
	{.name = "issuer", .kind = KEY_STRING, AT(cfg_way, saml.issuer), .required = true,
	 .help = "entity identifier of who signs the assertions"},
	{.name = "certificate_file", .kind = KEY_PATH, AT(cfg_way, saml.certificate_file),
	 .required = true, .help = "PEM file with the issuer's certificates; their keys verify, what "
				   "an assertion says of its key is not read"},
	{.name = "audience", .kind = KEY_STRING, AT(cfg_way, saml.audience), .required = true,
	 .help = "what the assertion's AudienceRestriction has to name"},
	{.name = "recipient", .kind = KEY_STRING, AT(cfg_way, saml.recipient), .required = true,
	 .help = "what the Recipient of its bearer confirmation has to be"},
	{.name = "form", .kind = KEY_FLAG, AT(cfg_way, saml.response), .words = saml_form_words,
	 .dflt = "assertion", .help = "what the agent's token is: an assertion, or a response that "
				      "holds one"},
	{.name = "once", .kind = KEY_BOOL, AT(cfg_way, saml.once), .dflt = "true",
	 .help = "an assertion approves one time only; false: until it ends, unless it says OneTimeUse"},
	{.name = "lifetime", DURATION(SECOND, DAY), AT(cfg_way, saml.lifetime_ms), .dflt = "1h",
	 .help = "longest time from the issue of an assertion to its end"},
	{.name = "clock_skew", DURATION(0, 10 * MINUTE), AT(cfg_way, saml.skew_ms), .dflt = "30s",
	 .help = "tolerance when the times in an assertion are checked"},
};
static const struct cfg_section saml_section = SECTION("saml", saml_keys);

static const struct cfg_key way_keys[] = {
	{.name = "by", .kind = KEY_ENUM, AT(cfg_way, kind), .words = way_words, .required = true,
	 .help = "how is asked: client_credentials, token_exchange, ciba, device, introspection, "
		 "authzen, saml_bearer or saml"},
	{.name = "scope", .kind = KEY_STRING, AT(cfg_way, scope),
	 .help = "scope to ask the provider for; a policy entry's own scope comes first"},
	{.name = "audience", .kind = KEY_STRING, AT(cfg_way, audience),
	 .help = "expected `aud` of the token; without it that of `idp`"},
	{.name = "resource", .kind = KEY_STRING, AT(cfg_way, resource),
	 .help = "resource parameter (RFC 8707); without it that of `idp`"},
	{.name = "login_hint", .kind = KEY_STRING, AT(cfg_way, login_hint),
	 .help = "ciba: whom the provider is to ask; `{agent}`, `{target}`, `{user}` and "
		 "`{database}` stand for themselves"},
	{.name = "login_hint_token", .kind = KEY_BOOL, AT(cfg_way, hint_token), .dflt = "false",
	 .help = "ciba, instead of `login_hint`: the agent's own token tells the provider whom to ask"},
	{.name = "binding_message", .kind = KEY_ENUM, AT(cfg_way, binding), .words = binding_words,
	 .dflt = "long", .help = "ciba: what the person reads: long (agent, target and statement), "
				 "short (a code of 20 letters and digits at most) or none"},
	{.name = "delivery", .kind = KEY_ENUM, AT(cfg_way, delivery), .words = delivery_words,
	 .dflt = "poll", .help = "ciba: how the decision is learned of: by asking again (poll), or when the "
				 "provider says at `idp.events` that there is one (ping)"},
	{.name = "details", .kind = KEY_BOOL, AT(cfg_way, details), .dflt = "true",
	 .help = "ask with authorization_details (RFC 9396) of `idp.details_type`, and take no token "
		 "that lacks them"},
	{.name = "approvers", .kind = KEY_STRINGS, AT(cfg_way, approvers),
	 .help = "`sub` of those whose approval counts; without it anybody's whom the provider asked"},
	{.name = "groups", .kind = KEY_STRINGS, AT(cfg_way, groups),
	 .help = "groups whose members' approval counts, by the claim `groups_claim`"},
	{.name = "groups_claim", .kind = KEY_STRING, AT(cfg_way, groups_claim), .dflt = "groups",
	 .help = "claim of the token that holds the approver's groups"},
	{.name = "acr", .kind = KEY_STRINGS, AT(cfg_way, acr),
	 .help = "authentication contexts that are good enough, asked for and required"},
	{.name = "max_age", DURATION(SECOND, 30 * DAY), AT(cfg_way, max_age_ms),
	 .help = "how long ago the approver may have authenticated"},
	{.name = "poll", DURATION(SECOND, MINUTE), AT(cfg_way, poll_ms), .dflt = "5s",
	 .help = "ciba, device: time between two questions where the provider does not say"},
	{.name = "url", .kind = KEY_STRING, AT(cfg_way, url),
	 .help = "authzen: the evaluation endpoint"},
	{.name = "decision_point", .kind = KEY_STRING, AT(cfg_way, decision_point),
	 .help = "authzen, instead of `url`: the decision point's identifier, whose metadata tell that"},
	{.name = "timeout", DURATION(100, MINUTE), AT(cfg_way, timeout_ms), .dflt = "5s",
	 .help = "authzen: longest duration of one question"},
	{.name = "ca_file", .kind = KEY_PATH, AT(cfg_way, ca_file),
	 .help = "authzen: PEM file with the authorities to trust instead of the system's"},
	{.name = "saml", SUB(saml_section), .help = "saml: what the agent's assertion has to say"},
	{.name = "recheck", DURATION(SECOND, DAY), AT(cfg_way, recheck_ms),
	 .help = "how often the provider is asked whether the token of a grant is still good (RFC 7662)"},
	{.name = "recheck_tolerance", DURATION(0, DAY), AT(cfg_way, recheck_tolerance_ms), .dflt = "2m",
	 .help = "how long the provider may fail to answer that before the grant ends"},
	{.name = "then", .kind = KEY_STRING, AT(cfg_way, then),
	 .help = "name of another way that has to say yes, too, asked after this one"},
};
const struct cfg_section cfg_way_section = SECTION("approval", way_keys);

static const struct cfg_key role_keys[] = {
	{.name = "admin", .kind = KEY_STRING, AT(cfg_credential, role.admin), .required = true,
	 .help = "name of the credential that makes and drops the roles; no target's"},
	{.name = "grants", .kind = KEY_STRINGS, AT(cfg_credential, role.grants), .required = true,
	 .help = "what it may: names of roles, or GRANT statements with {role} and, if need be, {database}"},
	{.name = "database", .kind = KEY_STRING, AT(cfg_credential, role.database),
	 .help = "database in which the rights are granted; without it that of the session"},
	{.name = "owner", .kind = KEY_STRING, AT(cfg_credential, role.owner),
	 .help = "who owns afterwards what it has made; without it the administrator"},
	{.name = "drop_owned", .kind = KEY_BOOL, AT(cfg_credential, role.drop_owned), .dflt = "false",
	 .help = "what it has made is dropped with it"},
	{.name = "connections", COUNT(1, 10000), AT(cfg_credential, role.connections), .dflt = "20",
	 .help = "its connections at the same time"},
	{.name = "max", DURATION(10 * SECOND, 30 * DAY), AT(cfg_credential, role.max_ms), .dflt = "1h",
	 .help = "how long it can log in where access needs no approval, whose grant would have an end"},
	{.name = "sweep", DURATION(SECOND, DAY), AT(cfg_credential, role.sweep_ms), .dflt = "10m",
	 .help = "time between two looks for roles that were left behind"},
};
static const struct cfg_section role_section = SECTION("ephemeral role", role_keys);

static const struct cfg_key credential_keys[] = {
	{.name = "user", .kind = KEY_STRING, AT(cfg_credential, user),
	 .help = "who logs in; without it the program of `exec`, or the subject of the token, tells"},
	{.name = "password_file", .kind = KEY_PATH, AT(cfg_credential, password_file),
	 .help = "file with the password, which only root or keyd may read"},
	{.name = "certificate_file", .kind = KEY_PATH, AT(cfg_credential, certificate_file),
	 .help = "PEM file with a client certificate, and its intermediates, for servers with `tls`"},
	{.name = "key_file", .kind = KEY_PATH, AT(cfg_credential, key_file),
	 .help = "PEM file with its private key, which only root or keyd may read"},
	{.name = "exec", .kind = KEY_STRINGS, AT(cfg_credential, exec),
	 .help = "program, by its absolute path, and arguments: prints the password, or JSON"},
	{.name = "run_as", .kind = KEY_STRING, AT(cfg_credential, run_as),
	 .help = "exec: account that the program runs under; one of its own, not root's or Tidegate's"},
	{.name = "timeout", DURATION(100, MINUTE), AT(cfg_credential, timeout_ms), .dflt = "10s",
	 .help = "exec: how long the program may take"},
	{.name = "keep", DURATION(0, DAY), AT(cfg_credential, keep_ms), .dflt = "5m",
	 .help = "exec: how long an answer is used that does not say it"},
	{.name = "grant_token", .kind = KEY_STRING, AT(cfg_credential, grant_token),
	 .help = "idp or a name of `approvals`: the access token that it brought when access was "
		 "granted is the password"},
	{.name = "ephemeral_role", SUB(role_section),
	 .help = "a role that is made when access is granted, and dropped at the end of the grant"},
	{.name = "clear_text", .kind = KEY_BOOL, AT(cfg_credential, clear_text), .dflt = "false",
	 .help = "a server that asks for the password itself is told it; otherwise only SCRAM and MD5 "
		 "are answered (grant_token: or a server on this host)"},
	NOT_HERE("password", "password_file"),
};
const struct cfg_section cfg_credential_section = SECTION("credential", credential_keys);

static const struct cfg_key catalog_keys[] = {
	{.name = "user", .kind = KEY_STRING, AT(cfg_target, catalog_user), .required = true,
	 .help = "login of Tidegate's own look-ups"},
	{.name = "password_file", .kind = KEY_PATH, AT(cfg_target, catalog_password_file),
	 .required = true, .help = "file with its password"},
	{.name = "database", .kind = KEY_STRING, AT(cfg_target, catalog_database),
	 .help = "database to log in to; without it that of the session"},
	NOT_HERE("password", "password_file"),
};
static const struct cfg_section catalog_section = SECTION("catalog", catalog_keys);

static const struct cfg_key limit_keys[] = {
	{.name = "statement_bytes", SIZE(KIB, 64 * MIB), AT(cfg_target, statement_bytes),
	 .dflt = "1MiB", .help = "longest statement that is judged; longer ones are denied"},
	{.name = "value_bytes", SIZE(256, 64 * MIB), AT(cfg_target, value_bytes), .dflt = "1MiB",
	 .help = "longest value that is looked into; longer ones are replaced whole"},
	{.name = "message_bytes", SIZE(64 * KIB, GIB), AT(cfg_target, message_bytes),
	 .dflt = "16MiB", .help = "longest message of a client that must be held whole"},
	{.name = "sessions", COUNT(1, 1000000), AT(cfg_target, max_sessions), .dflt = "10000",
	 .help = "sessions at the same time"},
	{.name = "bytes", SIZE(1, 1024 * 1024 * GIB), AT(cfg_target, session_bytes),
	 .help = "bytes of a session, both directions together; without it any number"},
	{.name = "time", DURATION(SECOND, 30 * DAY), AT(cfg_target, session_ms),
	 .help = "length of a session, beside that of its grant; without it any"},
	{.name = "idle", DURATION(SECOND, 30 * DAY), AT(cfg_target, idle_ms),
	 .help = "how long a session may carry nothing; without it for ever"},
};
static const struct cfg_section limit_section = SECTION("limits", limit_keys);

static const struct cfg_key tls_keys[] = {
	{.name = "mode", .kind = KEY_FLAG, AT(cfg_tls, verified), .words = tls_words,
	 .dflt = "verified",
	 .help = "verified: TLS with a server that proves who it is, or no connection; off: clear text"},
	{.name = "ca_file", .kind = KEY_PATH, AT(cfg_tls, ca_file),
	 .help = "PEM file with the authorities that the server's certificate may come from"},
	{.name = "server_name", .kind = KEY_STRING, AT(cfg_tls, server_name),
	 .help = "name or address that the certificate has to be for; without it what `address` says"},
	{.name = "min_version", .kind = KEY_FLAG, AT(cfg_tls, only_13), .words = tls_version_words,
	 .dflt = "1.2", .help = "oldest version of TLS that is spoken"},
	{.name = "pin", .kind = KEY_STRINGS, AT_N(cfg_tls, pin),
	 .help = "SHA-256 of the public key that the server has to have besides, one or a list"},
};
const struct cfg_section cfg_tls_section = SECTION("tls", tls_keys);

static const struct cfg_key target_keys[] = {
	{.name = "address", CUSTOM(cfg_take_addresses), .required = true,
	 .help = "what agents connect to: host:port, one or a list"},
	{.name = "protocol", .kind = KEY_STRING, AT(cfg_target, protocol), .required = true,
	 .help = "what is spoken there: postgresql, or tcp, which is not looked into"},
	{.name = "mode", .kind = KEY_ENUM, AT(cfg_target, mode), .words = cfg_mode_words,
	 .dflt = "steer", .help = "steer through Tidegate, block, observe (decide and record, never "
				  "refuse), or off (unguarded)"},
	{.name = "fail_open", .kind = KEY_BOOL, AT(cfg_target, fail_open), .dflt = "false",
	 .help = "agents reach the target directly while the daemon is down"},
	{.name = "socket", .kind = KEY_PATH, AT(cfg_target, socket),
	 .help = "AF_UNIX socket of the server on this host, used instead of its address"},
	{.name = "socket_auth", .kind = KEY_FLAG, AT(cfg_target, socket_trust),
	 .words = socket_auth_words, .dflt = "required",
	 .help = "whether a server that lets everybody in over its socket is accepted (trust)"},
	{.name = "accelerate", .kind = KEY_ENUM, AT(cfg_target, accelerate),
	 .words = accelerate_words, .dflt = "auto",
	 .help = "steered connections past the TCP stack: on, off, or only if no program can tell"},
	{.name = "accelerate_directions", .kind = KEY_ENUM, AT(cfg_target, accelerate_directions),
	 .words = ends_words, .dflt = "auto",
	 .help = "requests only, or replies as well; auto: both with postgresql, requests with tcp"},
	{.name = "listen", .kind = KEY_STRING, AT(cfg_target, listen),
	 .help = "address:port of a listener for clients that are pointed at Tidegate"},
	{.name = "listen_by_owner", .kind = KEY_BOOL, AT(cfg_target, listen_by_owner),
	 .help = "on a loopback listener the agent is known by the owner of the client's socket"},
	{.name = "netns", .kind = KEY_FLAG, AT(cfg_target, netns_agent), .words = netns_words,
	 .dflt = "daemon",
	 .help = "network namespace in which the target is reached: the daemon's, or the agent's"},
	{.name = "catalog", SUB(catalog_section),
	 .help = "login for Tidegate's own look-ups, which column masks need"},
	{.name = "limits", SUB(limit_section), .help = "limits of one session"},
	{.name = "connect_timeout", DURATION(100, 10 * MINUTE), AT(cfg_target, connect_timeout_ms),
	 .dflt = "10s", .help = "how long the target may take to accept a connection"},
	{.name = "credential", .kind = KEY_STRING, AT(cfg_target, credential),
	 .help = "name of the `credentials` that Tidegate logs in with in the agent's place; without "
		 "it agents log in with what they have"},
	{.name = "tls", CUSTOM(cfg_take_tls), .section = &cfg_tls_section,
	 .help = "TLS between Tidegate and the server"},
	NOT_HERE("password", "credentials: { NAME: { password_file: ... } }"),
};
const struct cfg_section cfg_target_section = SECTION("target", target_keys);

static const struct cfg_key access_keys[] = {
	{.name = "approval", CUSTOM(cfg_take_approval),
	 .help = "none, builtin (an operator approves), idp, or a name of `approvals`; without it idp "
		 "where that section is given, else builtin"},
	{.name = "scope", .kind = KEY_SLICE, AT(entry_spec, scope),
	 .help = "scope to ask the identity provider for"},
	{.name = "max", DURATION(SECOND, 30 * DAY), AT(entry_spec, max_ms), .dflt = "15m",
	 .help = "length of the grant"},
	{.name = "hold", DURATION(SECOND, DAY), AT(entry_spec, access_hold_ms), .dflt = "1h",
	 .help = "how long a connection may wait for approval"},
	{.name = "grace", DURATION(0, 5 * MINUTE), AT(entry_spec, grace_ms), .dflt = "0s",
	 .help = "how long a statement or transaction that runs when the grant ends may go on; new "
		 "statements are refused meanwhile"},
	{.name = "approvers", .kind = KEY_SLICES, AT_N(entry_spec, approvers),
	 .help = "users or groups who may approve; without it whoever may use the control socket"},
	{.name = "min_approvals", COUNT(1, 16), AT(entry_spec, min_approvals), .dflt = "1",
	 .help = "how many different people must approve"},
};
static const struct cfg_section access_section = SECTION("access", access_keys);

static const struct cfg_key when_token_keys[] = {
	{.name = "sub", .kind = KEY_SLICES, AT_N(cfg_when, sub),
	 .help = "subject of the agent's token; `*` and `?` match as in a shell"},
	{.name = "claims", CUSTOM(cfg_take_claims),
	 .help = "names of claims with the value, or values, that they may have"},
};
static const struct cfg_section when_token_section = SECTION("token", when_token_keys);

static const struct cfg_key when_keys[] = {
	{.name = "exe", .kind = KEY_SLICES, AT_N(cfg_when, exe),
	 .help = "path of the program that the agent's process runs; `*` and `?` match as in a shell"},
	{.name = "exe_sha256", .kind = KEY_SLICES, AT_N(cfg_when, exe_sha256),
	 .help = "SHA-256 of that program's file, as 64 hexadecimal digits"},
	{.name = "container", .kind = KEY_SLICES, AT_N(cfg_when, container),
	 .help = "id of the process's container; `*` and `?` match as in a shell"},
	{.name = "image", .kind = KEY_SLICES, AT_N(cfg_when, image),
	 .help = "image of that container; `*` and `?` match as in a shell"},
	{.name = "uid", .kind = KEY_SLICES, AT_N(cfg_when, uid),
	 .help = "user id of the process, as a number"},
	{.name = "token", SUB(when_token_section), .help = "what the agent's token must say"},
};
const struct cfg_section cfg_when_section = SECTION("when", when_keys);

static const struct cfg_key entry_keys[] = {
	{.name = "agents", .kind = KEY_SLICES, AT_N(entry_spec, agents), .required = true,
	 .help = "names of agents; `*` and `?` match as in a shell"},
	{.name = "targets", .kind = KEY_SLICES, AT_N(entry_spec, targets), .required = true,
	 .help = "names of targets; `*` and `?` match as in a shell"},
	{.name = "when", CUSTOM(cfg_take_when), .section = &cfg_when_section,
	 .help = "what must be so of the agent's process and token for the entry to apply"},
	{.name = "access", SUB(access_section), .required = true,
	 .help = "how access is approved; `access: { approval: none }` lets these agents in"},
	{.name = "commands", CUSTOM(cfg_take_commands), .section = &cfg_rule_section,
	 .help = "ordered rules; the first that matches decides, none is a denial"},
	{.name = "mask", CUSTOM(cfg_take_masks), .section = &cfg_mask_section,
	 .help = "what is hidden in results"},
	{.name = "observe", .kind = KEY_BOOL, AT(entry_spec, observe), .dflt = "false",
	 .help = "decide and record, but refuse nothing"},
};
const struct cfg_section cfg_entry_section = SECTION("policy entry", entry_keys);

static const struct cfg_key rule_keys[] = {
	{.name = "effect", CUSTOM(cfg_take_effects), .required = true,
	 .help = "what the statement does: one or a list, or `any`"},
	{.name = "object", .kind = KEY_SLICE, AT(rule_spec, object),
	 .help = "glob over `schema.name` or `name` of what is touched; without it anything"},
	{.name = "text", .kind = KEY_SLICE, AT(rule_spec, text),
	 .help = "regular expression that the statement's text must match"},
	{.name = "do", .kind = KEY_ENUM, AT(rule_spec, what), .words = do_words, .required = true,
	 .help = "allow, approve (the live statement waits) or deny"},
	{.name = "approval", CUSTOM(cfg_take_way),
	 .help = "who is asked: builtin (an operator) or a name of `approvals`; without it builtin"},
	{.name = "approvers", .kind = KEY_SLICES, AT_N(rule_spec, approvers),
	 .help = "users or groups who may approve; without it whoever may use the control socket"},
	{.name = "min_approvals", COUNT(1, 16), AT(rule_spec, min_approvals), .dflt = "1",
	 .help = "how many different people must approve"},
	{.name = "hold", DURATION(SECOND, DAY), AT(rule_spec, hold_ms), .dflt = "1h",
	 .help = "how long the statement may wait"},
	{.name = "hold_in_transaction", DURATION(SECOND, HOUR), AT(rule_spec, hold_tx_ms),
	 .dflt = "30s", .help = "how long it may wait inside an open transaction"},
};
const struct cfg_section cfg_rule_section = SECTION("command rule", rule_keys);

static const struct cfg_key mask_keys[] = {
	{.name = "column", .kind = KEY_SLICE, AT(mask_spec, column),
	 .help = "table.column or schema.table.column, by its origin and under any alias"},
	{.name = "detect", CUSTOM(cfg_take_detectors),
	 .help = "kinds of values that are found wherever they stand"},
	{.name = "pattern", .kind = KEY_SLICES, AT_N(mask_spec, patterns),
	 .help = "regular expressions of values that are found wherever they stand"},
	{.name = "as", CUSTOM(cfg_take_how), .required = true,
	 .help = "redact, last4, hash or null"},
};
const struct cfg_section cfg_mask_section = SECTION("mask", mask_keys);

static const struct cfg_key daemon_keys[] = {
	{.name = "workers", COUNT(1, 64), AT(config, workers), .effect = WITH_WORKERS,
	 .help = "worker processes; without it one for each online CPU"},
	{.name = "user", .kind = KEY_STRING, AT(config, user), .dflt = "tidegate", .effect = AT_UPGRADE,
	 .help = "user that workers run as"},
	{.name = "run_dir", .kind = KEY_PATH, AT(config, run_dir), .dflt = "/run/tidegate",
	 .help = "control and metrics sockets"},
	{.name = "state_dir", .kind = KEY_PATH, AT(config, state_dir), .dflt = "/var/lib/tidegate",
	 .effect = AT_START,
	 .help = "state that outlives a restart, and journals"},
	{.name = "bpf_dir", .kind = KEY_PATH, AT(config, bpf_dir), .dflt = "/sys/fs/bpf/tidegate",
	 .effect = AT_START,
	 .help = "where programs, maps and links are pinned"},
	{.name = "cgroup_root", .kind = KEY_PATH, AT(config, cgroup_root), .effect = AT_START,
	 .help = "mount point of cgroup v2; without it found in the mount table"},
	{.name = "bpf", .kind = KEY_ENUM, AT(config, bpf), .words = bpf_words, .dflt = "auto",
	 .effect = AT_START,
	 .help = "on: refuse to start without BPF; off: listeners only; auto: on where permitted"},
	{.name = "metrics_listen", .kind = KEY_STRING, AT(config, metrics_listen),
	 .help = "loopback address:port of the metrics, besides their AF_UNIX socket"},
	{.name = "admin_group", .kind = KEY_STRING, AT(config, admin_group),
	 .help = "group that may use the control socket besides root"},
	{.name = "log_level", .kind = KEY_WORD, AT(config, log_level), .words = log_words,
	 .dflt = "info", .help = "least severe message that is logged"},
};
static const struct cfg_section daemon_section = SECTION("daemon", daemon_keys);

static const struct cfg_key recording_keys[] = {
	{.name = "dir", .kind = KEY_PATH, AT(config, record_dir),
	 .dflt = "/var/lib/tidegate/recordings", .effect = AT_START,
	 .help = "where recordings are kept"},
	{.name = "durability", .kind = KEY_ENUM, AT(config, durability), .words = durability_words,
	 .dflt = "process",
	 .help = "what a recording survives before a command goes on: a kill of the daemon "
		 "(process) or loss of power (disk)"},
	{.name = "required", .kind = KEY_BOOL, AT(config, record_required), .dflt = "true",
	 .help = "a session that cannot be recorded is ended"},
	{.name = "journal", SIZE(4 * MIB, 4 * GIB), AT(config, journal_bytes), .dflt = "64MiB",
	 .effect = WITH_WORKERS,
	 .help = "size of each worker's journal"},
};
static const struct cfg_section recording_section = SECTION("recording", recording_keys);

static const struct cfg_key namespace_keys[] = {
	{.name = "max", COUNT(1, 4000), AT(config, netns_max), .dflt = "256",
	 .help = "network namespaces of one agent that get listeners at the same time; in more of "
		 "them its targets are refused"},
	{.name = "lo", .kind = KEY_FLAG, AT(config, netns_raise_lo), .words = lo_words,
	 .dflt = "leave",
	 .help = "what to do where the loopback interface is down and agents cannot reach the "
		 "daemon: leave it, or bring it up"},
};
static const struct cfg_section namespace_section = SECTION("namespaces", namespace_keys);
static const struct cfg_key audit_keys[] = {
	{.name = "size", SIZE(64 * KIB, 4 * GIB), AT(config, audit_bytes), .dflt = "16MiB",
	 .help = "size at which audit.jsonl in the state directory is renamed and begun anew"},
	{.name = "keep", COUNT(1, 1000), AT(config, audit_keep), .dflt = "9",
	 .help = "how many older ones are kept"},
	{.name = "agent_lines", COUNT(0, 100000), AT(config, audit_agent_lines), .dflt = "60",
	 .help = "events that an agent can cause in a minute without anybody's hand; the rest is "
		 "counted and summed up in one line"},
};
static const struct cfg_section audit_section = SECTION("audit", audit_keys);

static const struct cfg_key dns_keys[] = {
	{.name = "steer", .kind = KEY_ENUM, AT(config, dns.steer), .words = steer_words,
	 .dflt = "auto",
	 .help = "agents' look-ups go to Tidegate's resolver; auto: if some target has a name, or an agent "
		 "the default deny"},
	{.name = "servers", .kind = KEY_STRINGS, .off = offsetof(struct config, dns.servers),
	 .off_n = offsetof(struct config, dns.nservers),
	 .help = "name servers to ask, as address or address:port; without it the host's"},
	{.name = "timeout", DURATION(100, 30 * SECOND), AT(config, dns.timeout_ms), .dflt = "2s",
	 .help = "how long a name server is waited for before the next is asked"},
	{.name = "keep", DURATION(5 * MINUTE, 30 * DAY), AT(config, dns.keep_ms), .dflt = "1h",
	 .help = "how long an address stays guarded after its name last had it"},
	{.name = "doh", .kind = KEY_FLAG, AT(config, dns.block_doh), .words = doh_words,
	 .dflt = "block", .help = "whether known DNS-over-HTTPS services are refused to agents"},
	{.name = "doh_hosts", .kind = KEY_STRINGS, .off = offsetof(struct config, dns.doh),
	 .off_n = offsetof(struct config, dns.ndoh),
	 .help = "names and addresses of such services besides those that are known"},
	{.name = "allow_special", .kind = KEY_STRINGS, .off = offsetof(struct config, dns.special),
	 .off_n = offsetof(struct config, dns.nspecial),
	 .help = "networks of loopback, link-local or the like that targets' names may lead to"},
	{.name = "log", .kind = KEY_BOOL, AT(config, dns.log), .dflt = "true",
	 .help = "agents' look-ups are recorded in dns.jsonl beside the recordings"},
	{.name = "log_size", SIZE(64 * KIB, 64 * GIB), AT(config, dns.log_bytes), .dflt = "64MiB",
	 .help = "size at which that file is replaced; one older one is kept"},
};
static const struct cfg_section dns_section = SECTION("dns", dns_keys);

static const struct cfg_key root_keys[] = {
	{.name = "idp", CUSTOM(cfg_take_idp), .section = &cfg_idp_section,
	 .help = "the identity provider; without it the built-in approver decides"},
	{.name = "approvals", CUSTOM(cfg_take_ways), .section = &cfg_way_section,
	 .help = "ways to ask for an approval, by name"},
	{.name = "credentials", CUSTOM(cfg_take_credentials), .section = &cfg_credential_section,
	 .help = "logins to targets that agents do not have, by name"},
	{.name = "agents", CUSTOM(cfg_take_agents), .section = &cfg_agent_section, .required = true,
	 .help = "who connects"},
	{.name = "targets", CUSTOM(cfg_take_targets), .section = &cfg_target_section,
	 .required = true, .help = "what is protected"},
	{.name = "policy", CUSTOM(cfg_take_policy), .section = &cfg_entry_section, .required = true,
	 .help = "who may do what where; what no entry allows is refused"},
	{.name = "daemon", SUB(daemon_section), .help = "settings of the daemon itself"},
	{.name = "recording", SUB(recording_section), .help = "recordings of sessions"},
	{.name = "namespaces", SUB(namespace_section),
	 .help = "agents in network namespaces other than the daemon's"},
	{.name = "audit", SUB(audit_section), .help = "the log of what operators did and what was noticed"},
	{.name = "dns", SUB(dns_section), .help = "names of targets, and agents' look-ups"},
};
const struct cfg_section cfg_root_section = SECTION("the file", root_keys);
