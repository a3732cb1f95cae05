/* SPDX-License-Identifier: MIT */
/* The configuration file: what it becomes, and what is said when it is wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/text.h"
#include "config/cfgkeys.h"
#include "config/config.h"
#include "config_rig.h"
#include "guard.h"

static void test_yaml_errors(void **state)
{
	static const struct config_bad rows[] = {
		{"", "1:1: the file is empty"},
		{"# nothing\n", "1:1: the file is empty"},
		{"a: b\n  c: [d\n", "1:4: invalid multiline plain key"},
		{"a: \"abc\\q\"\n", "1:8: invalid escape 'q' in double-quoted string"},
		{"a: b\n\xff: c\n", "2:1: not valid UTF-8 (byte 0xff)"},
		{"a: b\x01\n", "1:5: control character 0x01"},
		{A T P A, "4:1: this key was given before, in line 1"},
		{"a: *b\n", "1:4: no anchor `&b` before this alias"},
		{"a: &b [*b]\n", "1:8: no anchor `&b` before this alias"},
		{"a: !!int 3\n", "1:10: tags (`!...`) are not used here"},
		{"a: !x {b: c}\n", "1:7: tags (`!...`) are not used here"},
		{"{[a]: b}\n", "1:2: a key must be plain text"},
		{"<<: [1]\n", "1:6: `<<` takes mappings only"},
		{"a: [[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]\n", "1:19: nested too deeply"},
		{A T P "---\nb: c\n", "4:1: a second document begins here"},
		{"- a\n", "1:1: the file is a mapping of keys to values, not a list"},
		{"a\n", "1:1: the file is a mapping of keys to values, not a single value"},
	};

	config_bad(rows, ARRAY_SIZE(rows));
}

static void test_key_errors(void **state)
{
	static const struct config_bad rows[] = {
		{A T P "foo: 1\n", "4:1: unknown key `foo` in the file"},
		{A T P "rekording: {}\n",
		 "4:1: unknown key `rekording` in the file; did you mean `recording`?"},
		{A T, "1:1: the file lacks the key `policy` (who may do what where; what no entry "
		      "allows is refused)"},
		{A "targets:\n  orders-db:\n    address: h:1\n    protcol: postgresql\n"
		   "policy: [{agents: a, targets: orders-db, access: {approval: none}}]\n",
		 "5:5: unknown key `protcol` in target `orders-db`; did you mean `protocol`?"},
		{A T "policy: [{agents: a, targets: t, acces: {}}]\n",
		 "3:34: unknown key `acces` in policy[0]; did you mean `access`?"},
		{A TT("limits: {value_byte: 1}") P,
		 "2:62: unknown key `value_byte` in `limits` of target `t`; did you mean "
		 "`value_bytes`?"},
		{A TT("limits: {sessions: 0}") P,
		 "2:72: `sessions` takes a number from 1 to 1000000, not `0`"},
		{A TT("limits: {value_bytes: lots}") P,
		 "2:75: `value_bytes` takes a size as `64KiB`, `1MiB` or `4096`, not `lots`"},
		{A TT("limits: {value_bytes: 12}") P,
		 "2:75: `value_bytes` is from 256 to 67108864 bytes, not `12`"},
		{A TT("connect_timeout: 10") P, "2:70: `connect_timeout` takes a duration as `90s`, "
						"`15m` or `2h`, not `10`"},
		{A TT("connect_timeout: 1d") P,
		 "2:70: `connect_timeout` is from 100ms to 10m, not `1d`"},
		{A TT("fail_open: yes") P, "2:64: `fail_open` takes `true` or `false`, not `yes`"},
		{A TT("fail_open: \"true\"") P,
		 "2:64: `fail_open` takes `true` or `false`, not `true`"},
		{A TT("mode: ster") P, "2:59: `mode` takes `steer`, `block`, `observe` or `off`, not "
				       "`ster`; did you mean `steer`?"},
		{A TT("mode: [steer]") P, "2:59: `mode` takes a single value, not a list"},
		{A TT("mode: {}") P, "2:59: `mode` takes a single value, not a mapping"},
		{A TT("mode:") P, "2:53: `mode` takes a single value, not nothing"},
		{A TT("socket: tmp/s") P,
		 "2:61: `socket` takes an absolute path, not `tmp/s`"},
		{A TT("socket: \"a\\0b\"") P, "2:61: `socket` has a NUL byte"},
		{A TT("socket: \"\"") P, "2:61: `socket` is empty"},
		{A TT("limits: 3") P,
		 "2:61: `limits` of target `t` is a mapping of keys to values, not a single value"},
		{A "targets: {t: }\n" P,
		 "2:11: target `t` is a mapping of keys to values, not nothing"},
		{A "targets: [t]\n" P,
		 "2:10: `targets` is a mapping of names, as `orders-db: { address: \"db:5432\", "
		 "protocol: postgresql }`\n3:31: no target is called `t`"},
	};

	config_bad(rows, ARRAY_SIZE(rows));
}

static void test_secrets_stay_out(void **state)
{
	static const struct config_bad rows[] = {
		{"idp: {issuer: \"https://i\", client: {id: c, auth: client_secret_basic, "
		 "secret_file: /s, secret: x}}\n" A T P,
		 "1:88: `secret` is not written in `client` of `idp`: secrets are kept out of this "
		 "file; put it into a file of its own and name that with `secret_file`"},
		{A TT("catalog: {user: u, password: hunter2, password_file: /p}") P,
		 "2:72: `password` is not written in `catalog` of target `t`: secrets are kept out "
		 "of this file; put it into a file of its own and name that with `password_file`"},
		{A TT("catalog: {user: u}") P,
		 "2:62: `catalog` of target `t` lacks the key `password_file` (file with its "
		 "password)"},
		{A TT("catalog: {password_file: /p}") P,
		 "2:62: `catalog` of target `t` lacks the key `user` (login of Tidegate's own "
		 "look-ups)"},
		{"credentials: {c: {user: u, password: hunter2}}\n" A TT("credential: c") P,
		 "1:18: credential `c` takes one of `password_file`, `exec`, `grant_token`, "
		 "`ephemeral_role` and `key_file`\n"
		 "1:28: `password` is not written in credential `c`: secrets are kept out of this file; "
		 "put it into a file of its own and name that with `password_file`"},
	};

	config_bad(rows, ARRAY_SIZE(rows));
}

static void test_agent_rules(void **state)
{
	struct config *c;
	struct buf error;
	const struct cfg_allow *a;

	buf_init(&error, 4096);
	assert_int_equal(
		config_parse(slice_str("agents: {a: {uid: 1}, b: {uid: 2, default: deny, unix: listed, "
				       "unix_allow: [/run/x/, '@y*'], unix_refuse: ./z, allow: "
				       "[loopback, '10.0.0.0/8:443/tcp', '[fd00::1]:*', "
				       "10.0.0.2:53/udp]}}\n" T P),
			     "t", &c, &error),
		0);
	assert_false(c->agents[0].deny);
	assert_int_equal(c->agents[0].unix_mode, UNIX_GUARD);
	assert_true(c->agents[1].deny);
	assert_int_equal(c->agents[1].unix_mode, UNIX_LISTED);
	assert_int_equal(c->agents[1].nunix_allow, 2);
	assert_string_equal(c->agents[1].unix_refuse[0], "./z");
	assert_int_equal(c->agents[1].nallow, 5);
	a = c->agents[1].allow;
	assert_true(a[0].prefix == 104 && a[0].addr.s6_addr[12] == 127 && a[0].port == 0);
	assert_true(a[1].prefix == 128 && a[1].addr.s6_addr[15] == 1 && a[1].tcp && a[1].udp);
	assert_true(a[2].prefix == 104 && a[2].port == 443 && a[2].tcp && !a[2].udp);
	assert_true(a[3].prefix == 128 && a[3].port == 0 && a[3].addr.s6_addr[0] == 0xfd);
	assert_true(a[4].port == 53 && !a[4].tcp && a[4].udp);
	config_free(c);
	buf_done(&error);
}

static void test_agent_errors(void **state)
{
	static const struct config_bad rows[] = {
		{"agents: {A: {uid: 1}, a: {uid: 2}}\n" T P,
		 "1:10: `A` cannot name an agent: names are made of a-z, 0-9, `-`, `_` and `.`, begin "
		 "with a letter or digit and have at most 63 characters"},
		{"agents: {a: {}}\n" T P, "1:10: agent `a` has neither `cgroup` nor `uid` nor "
					  "`source`: nothing tells who it is"},
		{"agents: {a: {uid: root}}\n" T P,
		 "1:19: `uid` takes numbers, not `root` (`id -u NAME` tells the number)"},
		{"agents: {a: {uid: 4294967295}}\n" T P,
		 "1:19: `uid` takes numbers, not `4294967295` (`id -u NAME` tells the number)"},
		{"agents: {a: {uid: [1, 2]}, b: {uid: 2}}\n" T P,
		 "1:37: uid 2 is agent `a` already"},
		{"agents: {a: {cgroup: /x}, b: {cgroup: [/y, /x]}}\n" T P,
		 "1:39: cgroup `/x` is agent `a` already"},
		{"agents: {a: {cgroup: x/../y}}\n" T P,
		 "1:22: `cgroup` takes a path below the cgroup root, as `/agents.slice`, not "
		 "`x/../y`"},
		{"agents: {a: {source: 10.0.0.1/8}}\n" T P,
		 "1:22: source `10.0.0.1/8`: has bits set behind its prefix"},
		{"agents: {a: {source: 10.0.0.0/33}}\n" T P,
		 "1:22: source `10.0.0.0/33`: the prefix length is a number up to 32 (IPv4) or 128 "
		 "(IPv6)"},
		{"agents: {a: {source: here}}\n" T P, "1:22: source `here`: not an address"},
		{"agents: {a: {uid: 1, default: maybe}}\n" T P,
		 "1:31: `default` takes `allow` or `deny`, not `maybe`"},
		{"agents: {a: {uid: 1, allow: loopback}}\n" T P,
		 "1:29: `allow` means nothing to an agent that reaches everything: write "
		 "`default: deny`, too"},
		{"agents: {a: {uid: 1, default: deny, allow: [db:1]}}\n" T P,
		 "1:45: `allow` takes addresses as `10.0.0.0/8:443`, `10.0.0.2:53/udp` or "
		 "`loopback`, not `db:1`: names are not looked up here: write addresses, or make it "
		 "a target"},
		{"agents: {a: {uid: 1, default: deny, allow: 10.0.0.1}}\n" T P,
		 "1:44: `allow` takes addresses as `10.0.0.0/8:443`, `10.0.0.2:53/udp` or "
		 "`loopback`, not `10.0.0.1`: a port is missing: write `host:port`"},
		{"agents: {a: {uid: 1, default: deny, allow: []}}\n" T P, "1:44: `allow` is empty"},
		{"agents: {a: {uid: 1, unix: some}}\n" T P,
		 "1:28: `unix` takes `guard`, `listed` or `open`, not `some`"},
		{"agents: {a: {uid: 1, unix_refuse: run}}\n" T P,
		 "1:35: `unix_refuse` takes `/run/x.sock`, `/run/folder/`, `/tmp/begin*`, "
		 "`@abstract` or `./last-part`, not `run`"},
		{"agents: {a: {uid: 1, unix_allow: /a/../b}}\n" T P,
		 "1:34: `unix_allow` takes `/run/x.sock`, `/run/folder/`, `/tmp/begin*`, "
		 "`@abstract` or `./last-part`, not `/a/../b`"},
		{"agents: {a: {uid: 1, unix: open, unix_allow: /a}}\n" T P,
		 "1:28: `unix: open` leaves nothing to list"},
	};

	config_bad(rows, ARRAY_SIZE(rows));
}

static void test_target_errors(void **state)
{
	static const struct config_bad rows[] = {
		{A "targets: {t: {address: \"h:1\", protocol: postgresq}}\n" P,
		 "2:41: no protocol is called `postgresq`; did you mean `postgresql`?"},
		{A AD("h") P, "2:24: address `h`: a port is missing: write `host:port`"},
		{A AD("\"h:0\"") P,
		 "2:24: address `h:0`: the port is a number from 1 to 65535, or `*` for any"},
		{A AD("\"h:65536\"") P,
		 "2:24: address `h:65536`: the port is a number from 1 to 65535, or `*` for any"},
		{A AD("\"::1:5\"") P,
		 "2:24: address `::1:5`: an IPv6 address stands in brackets: `[::1]:5432`"},
		{A AD("\"[::1]\"") P, "2:24: address `[::1]`: a port is missing: write `host:port`"},
		{A AD("\"[::1:5\"") P, "2:24: address `[::1:5`: `]` is missing"},
		{A AD("\"10.0.0:5\"") P, "2:24: address `10.0.0:5`: not an address"},
		{A AD("\"10.1.0.0/8:5\"") P,
		 "2:24: address `10.1.0.0/8:5`: has bits set behind its prefix"},
		{A AD("\"0.0.0.0:5\"") P,
		 "2:24: address `0.0.0.0:5`: this is no address that anybody connects to; for all "
		 "write `0.0.0.0/0`"},
		{A AD("[]") P, "2:24: `address` is empty"},
		{A AD("[{}]") P, "2:25: `address` takes `host:port`, one or a list"},
		{A AD("[\"10.0.0.1:5\", \"10.0.0.1:5\"]") P,
		 "2:24: address `10.0.0.1` port 5 is listed twice"},
		{A "targets: {t: {address: \"10.0.0.0/8:5\", protocol: postgresql},\n"
		   " u: {address: [\"h:1\", \"10.0.0.0/8:5\"], protocol: postgresql}}\n" P,
		 "3:15: address `10.0.0.0/8` port 5 overlaps: it belongs to target `t` already"},
		{A "targets: {t: {address: \"DB.x:5\", protocol: postgresql},\n"
		   " u: {address: \"db.X:5\", protocol: postgresql}}\n" P,
		 "3:15: address `db.x` port 5 overlaps: it belongs to target `t` already"},
		{A TT("socket_auth: trust") P,
		 "2:66: `socket_auth` has a meaning only with `socket`"},
	};

	config_bad(rows, ARRAY_SIZE(rows));
}

static void test_listen_errors(void **state)
{
	static const struct config_bad rows[] = {
		{A TT("listen: \"0.0.0.0:6432\"") P,
		 "2:61: nothing tells the agents on this listener apart: give them a `source`"},
		{A TT("listen: \"127.0.0.1:6432\", listen_by_owner: false") P,
		 "2:61: nothing tells the agents on this listener apart: give them a `source`, or set "
		 "`listen_by_owner: true`"},
		{A TT("listen: \"10.0.0.1:6432\", listen_by_owner: true") P,
		 "2:95: `listen_by_owner` is possible on a loopback address only: the owner of a "
		 "socket elsewhere is not known here"},
		{A TT("listen_by_owner: true") P,
		 "2:70: `listen_by_owner` has a meaning only with `listen`"},
		{A TT("listen: \"localhost:6432\"") P,
		 "2:61: `listen` takes an address and a port of this host, as `127.0.0.1:6432`, not "
		 "`localhost:6432`"},
		{A TT("listen: 6432") P,
		 "2:61: listen `6432`: a port is missing: write `host:port`"},
		{A "targets: {t: {address: \"127.0.0.1:5\", protocol: postgresql, listen: "
		   "\"127.0.0.1:5\"}}\n" P,
		 "2:69: `listen` is the address of target `t`: Tidegate would connect to itself"},
		{A "targets: {t: {address: \"h:1\", protocol: postgresql, listen: \"127.0.0.1:5\"},\n"
		   " u: {address: \"h:2\", protocol: postgresql, listen: \"127.0.0.1:5\"}}\n" P,
		 "3:52: `listen` conflicts with that of target `t`"},
		{A TT("listen: \"127.0.0.1:9187\"") P "daemon: {metrics_listen: \"127.0.0.1:9187\"}\n",
		 "4:26: `metrics_listen` conflicts with `listen` of target `t`"},
		{A T P "daemon: {metrics_listen: \"10.0.0.1:9187\"}\n",
		 "4:26: `metrics_listen` is a loopback address: metrics name agents and targets"},
	};

	config_bad(rows, ARRAY_SIZE(rows));
}

static void test_policy_errors(void **state)
{
	static const struct config_bad rows[] = {
		{A T "policy: [{agents: [a, b], targets: \"u*\", access: {approval: none}}]\n",
		 "3:23: no agent is called `b`\n3:36: no target is called `u*`"},
		{A T "policy: {}\n",
		 "3:9: `policy` is a list of entries, each with agents, targets and access"},
		{A T "policy: [{agents: a, targets: t}]\n",
		 "3:10: policy[0] lacks the key `access` (how access is approved; `access: { approval: "
		 "none }` lets these agents in)"},
		{A T AC("approval: idp, scope: s"), "3:53: `approval: idp` needs the section `idp`"},
		{A T AC("approval: sso"), "3:53: `approval` takes `none`, `builtin`, `idp` or a name of `approvals`, not `sso`"},
		{A T AC("scope: s"), "3:43: `scope` has a meaning only where a provider is asked"},
		{A T AC("approval: none, approvers: x"),
		 "3:59: `approvers` has a meaning only with `approval: builtin`"},
		{"idp: {issuer: \"https://i\", client: {id: c, key: /k}}\n" A T AC("max: 1h"),
		 "4:42: `access` lacks `scope`, which the identity provider is asked for"},
		{A T CM("do: allow"), "3:71: policy[0].commands[0] lacks the key `effect` (what the "
				      "statement does: one or a list, or `any`)"},
		{A T CM("effect: reed, do: allow"),
		 "3:80: no effect is called `reed`; did you mean `read`?"},
		{A T CM("effect: [], do: allow"), "3:80: `effect` is empty"},
		{A T CM("effect: read, do: allow, hold: 1h"),
		 "3:97: `hold` has a meaning only with `do: approve`"},
		{A T CM("effect: read, do: aprove"),
		 "3:90: `do` takes `allow`, `approve` or `deny`, not `aprove`; did you mean "
		 "`approve`?"},
		{A T PP("commands: {}"),
		 "3:70: `commands` is a list of rules, as `- { effect: read, do: allow }`"},
		{A T MA("as: redact"),
		 "3:67: policy[0].mask[0] lacks one of `column`, `detect` and `pattern`"},
		{A T MA("column: ssn, as: redact"), "3:76: `column` takes `table.column` or "
						    "`schema.table.column`, not `ssn`"},
		{A T MA("column: t.c, detect: card, as: redact"),
		 "3:76: policy[0].mask[0] has both `column` and `detect` or `pattern`: write two"},
		{A T MA("detect: [card, emial], as: redact"),
		 "3:83: no detector is called `emial`; did you mean `email`?"},
		{A T MA("detect: pattern, as: redact"),
		 "3:76: write the pattern itself: `pattern: \"...\"`"},
		{A T MA("detect: card, as: none"),
		 "3:86: `as` takes `redact`, `last4`, `hash` or `null`, not `none`"},
		{A T CM("effect: read, do: allow, text: \"(\""),
		 "3:1: text: `(` is no usable pattern: Missing close parenthesis for group started at index 0."},
	};

	config_bad(rows, ARRAY_SIZE(rows));
}

static void test_all_errors_in_order(void **state)
{
	static const struct config_bad rows[] = {
		{"targets: {t: {address: h, protocol: x}}\nagents: {a: {uid: z}}\n"
		 "policy: [{agents: b, targets: t, access: {approval: never}, obsrve: true}]\n",
		 "1:24: address `h`: a port is missing: write `host:port`\n"
		 "1:37: no protocol is called `x`\n"
		 "2:19: `uid` takes numbers, not `z` (`id -u NAME` tells the number)\n"
		 "3:19: no agent is called `b`\n"
		 "3:53: `approval` takes `none`, `builtin`, `idp` or a name of `approvals`, not `never`\n"
		 "3:61: unknown key `obsrve` in policy[0]; did you mean `observe`?"},
	};

	config_bad(rows, ARRAY_SIZE(rows));
}

static void test_error_limit(void **state)
{
	struct config *c = NULL;
	char said[8192], text[4096];
	size_t n = 0, lines = 0;

	for (int i = 0; i < 60; i++)
		n += (size_t)snprintf(text + n, sizeof(text) - n, "k%d: 1\n", i);
	assert_int_equal(config_text(text, n, &c, said, sizeof(said)), -EINVAL);
	for (const char *p = said; *p; p++)
		lines += *p == '\n';
	assert_int_equal(lines, 51);
	assert_non_null(strstr(said, "t.yaml: and 13 more\n"));
}

/* --------------------------------------------------------------- aliases */

static void test_aliases_and_merge(void **state)
{
	struct config *c = config_good(A "targets:\n"
					"  t: &t {address: \"h:1\", protocol: postgresql, mode: block,\n"
					"         limits: {sessions: 7}}\n"
					"  u: {<<: *t, address: \"h:2\", mode: observe}\n"
					"policy:\n"
					"  - &e {agents: a, targets: t, access: {approval: none}}\n"
					"  - {targets: u, <<: [*e, {observe: true}]}\n");

	assert_int_equal(c->ntargets, 2);
	assert_int_equal(c->targets[1].mode, TARGET_OBSERVE);
	assert_int_equal(c->targets[1].addrs[0].port, 2);
	assert_int_equal(c->targets[1].max_sessions, 7);
	config_free(c);
}

static void test_alias_bomb(void **state)
{
	struct config *c = NULL;
	char said[512], text[2048];
	size_t n = 0;

	n += (size_t)snprintf(text, sizeof(text), "a: &x0 [l, l, l, l, l, l, l, l, l, l]\n");
	for (int i = 1; i < 12; i++) {
		n += (size_t)snprintf(text + n, sizeof(text) - n, "b%d: &x%d [", i, i);
		for (int k = 0; k < 10; k++)
			n += (size_t)snprintf(text + n, sizeof(text) - n, "%s*x%d", k ? "," : "",
					      i - 1);
		n += (size_t)snprintf(text + n, sizeof(text) - n, "]\n");
	}
	assert_int_equal(config_text(text, n, &c, said, sizeof(said)), -EINVAL);
	assert_string_equal(said,
			    "t.yaml:5:46: more than 100000 values once aliases are expanded\n");
}

/* ------------------------------------------------------------- good files */

static void test_defaults(void **state)
{
	struct config *c = config_good(A T P);
	const struct cfg_target *t = &c->targets[0];

	assert_string_equal(c->file, "t.yaml");
	assert_true(c->workers >= 1 && c->workers <= 256);
	assert_string_equal(c->user, "tidegate");
	assert_string_equal(c->run_dir, "/run/tidegate");
	assert_string_equal(c->state_dir, "/var/lib/tidegate");
	assert_string_equal(c->record_dir, "/var/lib/tidegate/recordings");
	assert_string_equal(c->bpf_dir, "/sys/fs/bpf/tidegate");
	assert_null(c->cgroup_root);
	assert_null(c->metrics_listen);
	assert_null(c->admin_group);
	assert_string_equal(c->log_level, "info");
	assert_int_equal(c->bpf, BPF_AUTO);
	assert_int_equal(c->durability, DURABLE_PROCESS);
	assert_true(c->record_required);
	assert_int_equal(c->journal_bytes, 64 << 20);
	assert_int_equal(c->netns_max, 256);
	assert_false(c->netns_raise_lo);
	assert_null(c->idp);
	assert_non_null(c->policy);
	assert_string_equal(t->protocol, "postgresql");
	assert_int_equal(t->mode, TARGET_STEER);
	assert_false(t->fail_open);
	assert_false(t->socket_trust);
	assert_false(t->listen_by_owner);
	assert_int_equal(t->statement_bytes, 1 << 20);
	assert_int_equal(t->value_bytes, 1 << 20);
	assert_int_equal(t->message_bytes, 16 << 20);
	assert_int_equal(t->connect_timeout_ms, 10000);
	assert_int_equal(t->max_sessions, 10000);
	assert_int_equal(t->line, 2);
	config_free(c);
}

static void test_everything(void **state)
{
	struct config *c = config_good(
		"idp:\n"
		"  issuer: http://127.0.0.1:9000/x\n"
		"  client: {id: c, auth: client_secret_post, secret_file: /s, key_id: k, algorithm: RS256}\n"
		"  audience: aud\n  resource: urn:r\n  ca_file: /ca\n  algorithms: [ES256]\n"
		"  timeout: 2s\n  clock_skew: 1m\n  allow_http: true\n"
		"  extra_origins: [\"https://k:8443\", \"http://127.0.0.1:9001\"]\n"
		"agents:\n"
		"  a: {cgroup: [/a.slice, /b], uid: [7, 8], source: 10.0.0.0/8}\n"
		"targets:\n"
		"  t:\n"
		"    address: [\"db.x:5432\", \"10.1.0.0/16:*\", \"[2001:db8::/32]:5\"]\n"
		"    protocol: postgresql\n    mode: off\n    fail_open: true\n"
		"    socket: /run/s\n    socket_auth: trust\n"
		"    accelerate: on\n    accelerate_directions: requests\n"
		"    listen: \"[::1]:6432\"\n"
		"    catalog: {user: u, database: d, password_file: /p}\n"
		"    limits: {statement_bytes: 2KiB, value_bytes: 300, message_bytes: 1GiB, sessions: 5}\n"
		"    connect_timeout: 3s\n"
		"policy:\n"
		"  - agents: \"*\"\n    targets: [t]\n    observe: true\n"
		"    access: {scope: s, max: 30d, hold: 5m}\n"
		"daemon:\n"
		"  {workers: 3, user: u, run_dir: /r, state_dir: /s, bpf_dir: /b, cgroup_root: /c,\n"
		"   bpf: off, metrics_listen: \"127.0.0.1:1\", admin_group: g, log_level: debug}\n"
		"recording: {dir: /d, durability: disk, required: false, journal: 8MiB}\n"
		"namespaces: {max: 5, lo: up}\n");
	const struct cfg_target *t = config_target(c, SLICE_LIT("t"));
	const struct cfg_agent *a = config_agent(c, SLICE_LIT("a"));
	struct in6_addr want;

	assert_int_equal(c->idp->auth, IDP_AUTH_SECRET_POST);
	assert_string_equal(c->idp->issuer, "http://127.0.0.1:9000/x");
	assert_string_equal(c->idp->secret_file, "/s");
	assert_string_equal(c->idp->key_alg, "RS256");
	assert_string_equal(c->idp->audience, "aud");
	assert_string_equal(c->idp->algorithms[0], "ES256");
	assert_null(c->idp->algorithms[1]);
	assert_string_equal(c->idp->extra_origins[0], "https://k:8443");
	assert_string_equal(c->idp->extra_origins[1], "http://127.0.0.1:9001");
	assert_null(c->idp->extra_origins[2]);
	assert_int_equal(c->idp->timeout_ms, 2000);
	assert_int_equal(c->idp->skew_ms, 60000);
	assert_non_null(a);
	assert_int_equal(a->ncgroups, 2);
	assert_string_equal(a->cgroups[1], "/b");
	assert_int_equal(a->nuids, 2);
	assert_int_equal(a->uids[1], 8);
	assert_int_equal(a->nsources, 1);
	assert_int_equal(a->line, 13);
	assert_non_null(t);
	assert_int_equal(t->naddrs, 3);
	assert_string_equal(t->addrs[0].host, "db.x");
	assert_false(t->addrs[0].literal);
	assert_int_equal(t->addrs[0].naddrs, 0);
	assert_int_equal(t->addrs[1].port, 0);
	assert_int_equal(t->addrs[1].prefix, 112);
	assert_int_equal(inet_pton(AF_INET6, "::ffff:10.1.0.0", &want), 1);
	assert_memory_equal(t->addrs[1].addrs, &want, 16);
	assert_int_equal(t->addrs[2].prefix, 32);
	assert_int_equal(t->mode, TARGET_OFF);
	assert_true(t->fail_open);
	assert_true(t->socket_trust);
	assert_true(t->listen_by_owner);
	assert_string_equal(t->catalog_password_file, "/p");
	assert_int_equal(t->statement_bytes, 2048);
	assert_int_equal(t->message_bytes, 1 << 30);
	assert_int_equal(t->max_sessions, 5);
	assert_int_equal(c->workers, 3);
	assert_int_equal(c->bpf, BPF_OFF);
	assert_string_equal(c->log_level, "debug");
	assert_int_equal(c->durability, DURABLE_DISK);
	assert_false(c->record_required);
	assert_int_equal(c->journal_bytes, 8 << 20);
	assert_int_equal(c->netns_max, 5);
	assert_true(c->netns_raise_lo);
	assert_null(config_target(c, SLICE_LIT("u")));
	assert_null(config_agent(c, SLICE_LIT("")));
	config_free(c);
}

/* What the policy makes of the file is seen through its decisions. */
static void test_policy_is_built(void **state)
{
	struct config *c = config_good(
		A T "policy:\n"
		    "  - agents: a\n    targets: t\n"
		    "    access: {approval: builtin, max: 20m, approvers: [dba], min_approvals: 2}\n"
		    "    commands: [{effect: read, do: allow}]\n"
		    "    mask: [{column: s.t.c, as: null}, {detect: card, pattern: 'X[0-9]{4}', as: hash}]\n");
	struct access_decision d;
	struct policy_view *v;

	assert_int_equal(policy_view_new(c->policy, SLICE_LIT("a"), SLICE_LIT("t"), &v), 0);
	policy_access(v, &d);
	assert_true(d.allowed);
	assert_int_equal(d.via, ACCESS_BUILTIN);
	assert_int_equal(d.max_ms, 20 * 60 * 1000);
	assert_int_equal(d.min_approvals, 2);
	assert_int_equal(d.napprovers, 1);
	assert_string_equal(d.approvers[0], "dba");
	assert_non_null(strstr(d.rule, "t.yaml:4"));
	assert_true(mask_set_needs_catalog(policy_masks(v)));
	policy_view_free(v);
	config_free(c);
}

static void test_most_specific_address_may_overlap(void **state)
{
	config_free(config_good(
		A "targets:\n  t: {address: \"10.0.0.1:5\", protocol: postgresql}\n"
		  "  all: {address: [\"0.0.0.0/0:5\", \"10.0.0.1:*\", \"10.0.0.1:6\"], mode: block, "
		  "protocol: postgresql}\n" P));
}

static void test_mode_names(void **state)
{
	for (int m = TARGET_STEER; m <= TARGET_OFF; m++)
		assert_int_equal(target_mode_parse(slice_str(target_mode_name((enum target_mode)m))),
				 m);
	assert_int_equal(target_mode_parse(SLICE_LIT("of")), -1);
}

/* ------------------------------------------------------------------ files */

static char *slurp(const char *path)
{
	int fd = open(path, O_RDONLY);
	char *text = calloc(1, 1 << 20);
	ssize_t n;

	assert_true(fd >= 0 && text);
	n = read(fd, text, (1 << 20) - 1);
	assert_true(n > 0);
	(void)close(fd);
	return text;
}

/* The example is right, and stays so when everything that is commented out is put in use. */
static void test_example(void **state)
{
	char *text = slurp("deploy/tidegate.yaml");

	config_free(config_good(text));
	for (char *line = text; *line;) {
		char *p = line + strspn(line, " "), *end = line + strcspn(line, "\n");

		if (p[0] == '#' && ((p[1] >= 'a' && p[1] <= 'z') || (p[1] == ' ' && p[2] == ' ')))
			memmove(p, p + 1, strlen(p));
		end = line + strcspn(line, "\n");
		line = end + (*end == '\n');
	}
	config_free(config_good(text));
	free(text);
}

/* What a reload does not put into effect says what it takes, and nothing else does. */
static void check_effect(const char *page, const struct cfg_section *s, const struct cfg_key *k)
{
	static const char *const words[] = {
		[WITH_WORKERS] = "\nA reload starts ",
		[AT_UPGRADE] = "\nTakes an upgrade in place",
		[AT_START] = "\nTakes a restart.\n",
	};
	const char *at, *end, *said;
	char head[64];

	(void)snprintf(head, sizeof(head), "\nKeys of\n.Ic %s .", s->title);
	at = strstr(page, head);
	if (!at)
		return;
	(void)snprintf(head, sizeof(head), "\n.It Ic %s ", k->name);
	at = strstr(at, head);
	assert_non_null(at);
	end = strstr(at + 1, "\n.It Ic ");
	for (enum key_effect e = WITH_WORKERS; e <= AT_START; e++) {
		said = strstr(at, words[e]);
		if ((said && (!end || said < end)) == (k->effect == e))
			continue;
		print_error("tidegate.yaml.5: what `%s` takes is not what is done\n", k->name);
		fail();
	}
}

/* Every key stands in tidegate.yaml(5) as ".It Ic key", its default as "Default: .Li x". */
static void check_documented(const char *page, const struct cfg_section *s)
{
	for (uint32_t i = 0; i < s->nkeys; i++) {
		const struct cfg_key *k = &s->keys[i];
		char want[128];

		(void)snprintf(want, sizeof(want), "\n.It Ic %s%s", k->name,
			       k->kind == KEY_REFUSED ? "" : " ");
		if (k->kind != KEY_REFUSED && !strstr(page, want)) {
			print_error("tidegate.yaml.5 lacks `%s` of %s\n", k->name, s->title);
			fail();
		}
		if (k->dflt && k->kind != KEY_REFUSED) {
			(void)snprintf(want, sizeof(want), "\n.It Ic %s Pq default %s", k->name,
				       k->dflt);
			if (!strstr(page, want)) {
				print_error("tidegate.yaml.5: default of `%s` is not `%s`\n",
					    k->name, k->dflt);
				fail();
			}
		}
		if (k->kind != KEY_REFUSED)
			check_effect(page, s, k);
		if (k->section)
			check_documented(page, k->section);
	}
}

static void test_manual_page_has_every_key(void **state)
{
	char *page = slurp("deploy/man/tidegate.yaml.5");

	check_documented(page, &cfg_root_section);
	free(page);
}

static void test_load(void **state)
{
	char path[] = "/tmp/tidegate-config-XXXXXX", said[256] = "";
	int fd = mkstemp(path);
	struct config *c = NULL;
	struct buf error;

	buf_init(&error, sizeof(said));
	assert_true(fd >= 0);
	assert_int_equal(write(fd, A T P, strlen(A T P)), strlen(A T P));
	assert_int_equal(config_load(path, &c, &error), 0);
	assert_string_equal(c->file, path);
	config_free(c);
	assert_int_equal(fchmod(fd, 0602), 0);
	assert_int_equal(config_load(path, &c, &error), -EPERM);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(config_load(path, &c, &error), -ENOENT);
	assert_int_equal(config_load("/tmp", &c, &error), -EISDIR);
	memcpy(said, buf_data(&error), min_size(error.n, sizeof(said) - 1));
	assert_non_null(strstr(said, "every user may write to it"));
	assert_non_null(strstr(said, "No such file or directory"));
	buf_done(&error);
	(void)close(fd);
}

static void test_too_large(void **state)
{
	size_t n = (1 << 20) + 1;
	char *text = malloc(n), said[256];
	struct config *c = NULL;

	assert_non_null(text);
	memset(text, '#', n);
	assert_int_equal(config_text(text, n, &c, said, sizeof(said)), -EINVAL);
	assert_string_equal(said, "t.yaml:1:1: the file is larger than 1 MiB\n");
	free(text);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_yaml_errors),
		cmocka_unit_test(test_key_errors),
		cmocka_unit_test(test_secrets_stay_out),
		cmocka_unit_test(test_agent_rules),
		cmocka_unit_test(test_agent_errors),
		cmocka_unit_test(test_target_errors),
		cmocka_unit_test(test_listen_errors),
		cmocka_unit_test(test_policy_errors),
		cmocka_unit_test(test_all_errors_in_order),
		cmocka_unit_test(test_error_limit),
		cmocka_unit_test(test_aliases_and_merge),
		cmocka_unit_test(test_alias_bomb),
		cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_everything),
		cmocka_unit_test(test_policy_is_built),
		cmocka_unit_test(test_most_specific_address_may_overlap),
		cmocka_unit_test(test_mode_names),
		cmocka_unit_test(test_example),
		cmocka_unit_test(test_manual_page_has_every_key),
		cmocka_unit_test(test_load),
		cmocka_unit_test(test_too_large),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
