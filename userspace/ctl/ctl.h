/* SPDX-License-Identifier: MIT */
/*
 * The frame of the admin utility: `tidegate [OPTIONS] OBJECT COMMAND ...`.
 * One object per file, with one table of commands; see ctl_dispatch(). A command
 * prints one JSON document with -j, and text for people without.
 */
#ifndef TIDEGATE_CTL_CTL_H
#define TIDEGATE_CTL_CTL_H

#include <jansson.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/slice.h"
#include "tidegate_ctl.h"

/* Documented in tidegate(8). */
enum ctl_exit {
	CTL_OK = 0,
	CTL_FAILED = 1,	   /* it could not be done, or a check found something */
	CTL_USAGE = 2,	   /* the command line is wrong */
	CTL_NO_DAEMON = 3, /* the daemon does not answer */
	CTL_DENIED = 4,	   /* the caller may not do this */
};

struct ctl_cmd;
struct config;
struct kern;

struct ctl {
	bool json, pretty;
	const char *pin_path;	 /* -f, or NULL: what the configuration says */
	const char *config_path; /* -c, or NULL: TG_CTL_CONFIG */
	const char *socket_path; /* -s, or NULL: see client_path() */
	uint64_t timeout_ms;	 /* for one answer of the daemon */
	bool batch;		 /* inside `tidegate batch` */
	bool batch_array;	 /* and its output is one document */
	uint32_t documents;	 /* JSON documents printed for this command */
	const char *object;	 /* for messages */
	const struct ctl_cmd *cmd;
	struct config *config; /* loaded once, by conf_load() */
	bool config_tried;
};

/* ------------------------------------------------------------- commands */

struct ctl_cmd {
	const char *name;
	/* Returns an enum ctl_exit; argv[0] is the first word behind the command. */
	int (*run)(struct ctl *c, int argc, char **argv);
	const char *args; /* "NAME [--for TIME]"; "" if there are none */
	const char *help; /* one line */
};

/*
 * Runs the command that argv[0] names, exactly or by a prefix that fits only
 * one; without arguments the first of the table. `help` is understood by itself.
 * @more, or NULL, is printed below the help. @object NULL: @cmds are the objects.
 */
int ctl_dispatch(struct ctl *c, const char *object, const struct ctl_cmd *cmds, size_t n,
		 const char *more, int argc, char **argv);

/* An option of a command, `--name VALUE` or `--name`. Exactly one pointer is set. */
/* The values of an option that may be given several times. */
struct ctl_words {
	const char *list[32];
	size_t n;
};

struct ctl_opt {
	const char *name; /* without the dashes */
	const char **value;
	bool *flag;
	uint64_t *duration_ms;
	struct ctl_words *words;
};

/*
 * Takes the options out of @argv, in any place before `--`, and checks that @min to @max
 * words are left (@max < 0: no limit). -j and -p are understood here too. 0, or
 * CTL_USAGE after the error was said.
 */
MUST_CHECK int ctl_args(struct ctl *c, int *argc, char **argv, const struct ctl_opt *opts,
			size_t nopts, int min, int max);

/*
 * Most commands that end something are `VERB ID [--reason TEXT]`: takes those arguments and
 * asks @op. 0 and *ret, a reference for the caller; or an enum ctl_exit after the error was said.
 */
MUST_CHECK int ctl_call_id(struct ctl *c, enum tg_ctl_op op, int argc, char **argv, json_t **ret);

/* Runs one command line: argv[0] is the object. Defined in main.c, for batch. */
int ctl_run(struct ctl *c, int argc, char **argv);

/* --------------------------------------------------------------- output */

/*
 * An error, in the format of the data: {"error": {"code", "message", "hint"}} on
 * stdout with -j, text on stderr without. Returns the exit code that belongs to @code.
 * @hint is what to do about it, or NULL. The texts are escaped here.
 */
int out_error(struct ctl *c, const char *code, const char *hint, const char *fmt, ...) PRINTF(4, 5);

/* Prints a document (-j); the value stays the caller's. CTL_OK, or CTL_FAILED. */
int out_json(struct ctl *c, const json_t *v);
/* The same for text made by jsonw (with c->pretty). */
int out_json_text(struct ctl *c, struct slice text);
/* A value as JSON on stdout, without a new line: for lines of text. */
void out_inline(const json_t *v);
/* A line on stdout for people, nothing with -j. Foreign bytes are the caller's to escape. */
void out_text(const struct ctl *c, const char *fmt, ...) PRINTF(2, 3);
/* @s made fit for a terminal, on stdout, without a new line. */
void out_escaped(struct slice s);
/*
 * As text_escape(), and also for characters that reorder or hide text; what does not
 * fit ends in "...". @cap >= 1.
 */
size_t out_escape(struct slice s, char *dst, size_t cap);

enum out_kind {
	OUT_TEXT,  /* strings, numbers and booleans as they are; arrays joined by `,` */
	OUT_NUM,   /* right-aligned */
	OUT_TIME,  /* RFC 3339 time as it is, to the second */
	OUT_AGO,   /* RFC 3339 time, as time passed */
	OUT_LEFT,  /* RFC 3339 time, as time to come; `-` if there is none */
	OUT_BYTES, /* number, with a unit */
	OUT_MS,	   /* milliseconds, as a duration */
	OUT_LINES, /* out_fields(): text whole and with its lines; else as OUT_TEXT */
};

/* A column of a list or a line of one object. */
struct out_col {
	const char *title;
	const char *key; /* of the object; "off.reason" goes into an object */
	enum out_kind kind;
	unsigned flags; /* OUT_SHRINKS, ... */
};
enum {
	OUT_SHRINKS = 1,  /* may be cut when the terminal is too narrow */
	OUT_OPTIONAL = 2, /* left out of a list when no row has it */
	OUT_WIDE = 4,	  /* left out when the terminal is too narrow, the last one first */
};

/* An array of objects as a table that fits the terminal, or as it is with -j. */
int out_list(struct ctl *c, const json_t *array, const struct out_col *cols, size_t n,
	     const char *none);
/* The table alone, for commands that print more around it. */
void out_table(const json_t *array, const struct out_col *cols, size_t n);
/* One object, a line a field; fields that @cols does not name follow. */
int out_fields(struct ctl *c, const json_t *object, const struct out_col *cols, size_t n);

/* The element of an array of objects whose string member @key is @name, or NULL. */
const json_t *ctl_named(const json_t *array, const char *key, const char *name);

/*
 * That element as out_fields(), or an error that there is none. @hint NULL: that
 * `tidegate OBJECT list` shows them.
 */
int out_named(struct ctl *c, const json_t *array, const char *key, const char *name,
	      const struct out_col *cols, size_t n, const char *hint);

/* "5m", "2h3m", "3d4h" of a duration; @cap of 24 is enough. */
void out_duration(uint64_t ms, char *dst, size_t cap);

/* --------------------------------------------------------------- client */

struct client;

/* The control socket that will be used. Valid until the next call. */
const char *client_path(struct ctl *c);
/*
 * Is somebody listening? For commands that also work on the pinned maps.
 * 1, 0 (nobody: no socket or nobody behind it), or negative errno.
 */
MUST_CHECK int client_present(struct ctl *c);

/*
 * One question and its answer, within c->timeout_ms. @args (stolen) may be NULL.
 * 0 and *ret, a reference for the caller; or an enum ctl_exit after the error was said.
 */
MUST_CHECK int client_call(struct ctl *c, enum tg_ctl_op op, json_t *args, json_t **ret);

/* A question with many answers: @each is called for each until it returns non-zero. */
int client_follow(struct ctl *c, enum tg_ctl_op op, json_t *args,
		  int (*each)(struct ctl *c, const json_t *event));

/* ------------------------------------- without the daemon (conf.c, pins.c) */

/* The file that -c names, or the usual one. */
const char *conf_path(const struct ctl *c);
/* The configuration, loaded once; or an exit code after all its errors were said. */
MUST_CHECK int conf_load(struct ctl *c, const struct config **ret);
/*
 * The same for what also works with defaults: NULL if there is none or it is wrong. A 3 a.m.
 * repair must not depend on a file that may be what is broken.
 */
const struct config *conf_try(struct ctl *c);
const char *conf_state_dir(struct ctl *c);
void conf_done(struct ctl *c);

/* The pinned maps: 0 and *ret (kern_close()), or an exit code after the error was said. */
MUST_CHECK int pins_open(struct ctl *c, struct kern **ret);
/* The same, saying nothing: 0 or negative errno. */
MUST_CHECK int pins_try(struct ctl *c, struct kern **ret);

/*
 * The targets with the daemon down: as target.list would show them, from the state
 * files and the maps. 0 and *ret, or an exit code after the error was said.
 */
MUST_CHECK int pins_targets(struct ctl *c, json_t **ret);
/* The same, saying nothing: 0 or negative errno. */
MUST_CHECK int pins_targets_try(struct ctl *c, json_t **ret);
/* One address more, or less, for a target, in the map only: until the daemon starts again. */
MUST_CHECK int pins_address(struct ctl *c, const char *name, const char *address, bool add);
/* Switches a target in the map and writes it down for the daemon. */
struct pins_switch {
	const char *name, *mode, *reason; /* mode as in target.set; reason may be NULL */
	uint64_t for_ms;		  /* 0: until it is reset */
};
MUST_CHECK int pins_switch(struct ctl *c, const struct pins_switch *s, json_t **ret);

/* A command that lists one kind of pinned object: "map", "prog" or "link". In cmd_map.c. */
int pins_describe(struct ctl *c, int argc, char **argv, const char *what,
		  const struct out_col *cols, size_t n);

/* -------------------------------------------------------------- objects */

int cmd_agent(struct ctl *c, int argc, char **argv);
/* `agent run`; in cmd_run.c. Returns only if the command could not be started. */
int cmd_agent_run(struct ctl *c, int argc, char **argv);
int cmd_approval(struct ctl *c, int argc, char **argv);
int cmd_audit(struct ctl *c, int argc, char **argv);
int cmd_daemon(struct ctl *c, int argc, char **argv);
int cmd_batch(struct ctl *c, int argc, char **argv);
int cmd_dns(struct ctl *c, int argc, char **argv);
int cmd_feature(struct ctl *c, int argc, char **argv);
int cmd_grant(struct ctl *c, int argc, char **argv);
int cmd_link(struct ctl *c, int argc, char **argv);
int cmd_map(struct ctl *c, int argc, char **argv);
int cmd_policy(struct ctl *c, int argc, char **argv);
int policy_reload(struct ctl *c, int argc, char **argv); /* `daemon reload`, too */
int cmd_prog(struct ctl *c, int argc, char **argv);
int cmd_recording(struct ctl *c, int argc, char **argv);
int cmd_session(struct ctl *c, int argc, char **argv);
int cmd_status(struct ctl *c, int argc, char **argv);
int cmd_target(struct ctl *c, int argc, char **argv);
int cmd_version(struct ctl *c, int argc, char **argv);

#endif
