/* SPDX-License-Identifier: MIT */
/* tidegate: the admin utility. Options, and the table of objects. */
#include <getopt.h>
#include <locale.h>

#include "base/jsonw.h"
#include "base/log.h"
#include "base/text.h"
#include "ctl/ctl.h"

enum { DEFAULT_TIMEOUT_MS = 10000 };

static int cmd_help(struct ctl *c, int argc, char **argv);

static const struct ctl_cmd objects[] = {
	{"status", cmd_status, "", "is it all right, and if not, what to do"},
	{"target", cmd_target, "", "what is guarded: list it, switch it"},
	{"agent", cmd_agent, "", "who connects: the cgroups and uids that are watched"},
	{"dns", cmd_dns, "", "what the names of targets mean"},
	{"session", cmd_session, "", "connections through the gate"},
	{"approval", cmd_approval, "", "requests that wait for a decision"},
	{"grant", cmd_grant, "", "approved access that has an end"},
	{"recording", cmd_recording, "", "what sessions did, from their files"},
	{"audit", cmd_audit, "", "what operators did, and what was noticed of others"},
	{"policy", cmd_policy, "", "check, test and explain the configuration"},
	{"daemon", cmd_daemon, "", "the daemon itself: reload its file, upgrade it in place"},
	{"map", cmd_map, "", "the pinned BPF maps"},
	{"prog", cmd_prog, "", "the pinned BPF programs"},
	{"link", cmd_link, "", "where the programs are attached"},
	{"feature", cmd_feature, "", "what this kernel can do, and what its gaps leave open"},
	{"batch", cmd_batch, "FILE", "run the commands in FILE, a line each (`-`: stdin)"},
	{"version", cmd_version, "", "version, features and libraries"},
	{"help", cmd_help, "[OBJECT]", "this text, or that of an object"},
};

static const char options_help[] =
	"  -j, --json          JSON on stdout, errors too\n"
	"  -p, --pretty        the same, indented\n"
	"  -c, --config FILE   configuration (" TG_CTL_CONFIG ")\n"
	"  -s, --socket PATH   control socket of the daemon (" TG_CTL_RUN_DIR "/" TG_CTL_SOCKET
	")\n"
	"  -f, --pins PATH     where programs and maps are pinned\n"
	"      --timeout TIME  longest wait for an answer of the daemon (10s)\n"
	"  -V, --version       as `tidegate version`\n"
	"  -h, --help          this text\n";

static const struct option long_options[] = {
	{"json", no_argument, NULL, 'j'},
	{"pretty", no_argument, NULL, 'p'},
	{"config", required_argument, NULL, 'c'},
	{"socket", required_argument, NULL, 's'},
	{"pins", required_argument, NULL, 'f'},
	{"timeout", required_argument, NULL, 't'},
	{"version", no_argument, NULL, 'V'},
	{"help", no_argument, NULL, 'h'},
	{NULL, 0, NULL, 0},
};

static int help_json(struct ctl *c)
{
	struct buf out;
	struct jsonw w;
	int rc = CTL_FAILED;

	buf_init(&out, 65536);
	jsonw_init(&w, &out, c->pretty);
	jsonw_object(&w);
	jsonw_name(&w, "objects");
	jsonw_array(&w);
	for (size_t i = 0; i < ARRAY_SIZE(objects); i++) {
		jsonw_object(&w);
		jsonw_kv_string(&w, "name", objects[i].name);
		jsonw_kv_string(&w, "help", objects[i].help);
		jsonw_object_end(&w);
	}
	jsonw_array_end(&w);
	jsonw_name(&w, "options");
	jsonw_array(&w);
	for (const struct option *o = long_options; o->name; o++)
		jsonw_string(&w, o->name);
	jsonw_array_end(&w);
	jsonw_object_end(&w);
	if (jsonw_end(&w) == 0)
		rc = out_json_text(c, buf_slice(&out));
	buf_done(&out);
	return rc;
}

static int cmd_help(struct ctl *c, int argc, char **argv)
{
	if (argc) {
		char *words[] = {argv[0], (char[]){"help"}};

		return ctl_run(c, 2, words);
	}
	if (c->json)
		return help_json(c);
	out_text(c, "Usage: tidegate [OPTIONS] OBJECT [COMMAND [ARGUMENTS]]\n"
		    "       tidegate [OPTIONS] OBJECT help\n\nObjects:\n");
	for (size_t i = 0; i < ARRAY_SIZE(objects); i++)
		out_text(c, "  %s%s%-*s  %s\n", objects[i].name, *objects[i].args ? " " : "",
			 (int)(17 - strlen(objects[i].name) - (*objects[i].args != '\0')),
			 objects[i].args, objects[i].help);
	out_text(c,
		 "\nOptions:\n%s\n"
		 "Objects and commands may be shortened as long as only one fits.\n"
		 "Exit status: 0 done, 1 failed, 2 usage, 3 no daemon, 4 not permitted.\n",
		 options_help);
	return CTL_OK;
}

int ctl_run(struct ctl *c, int argc, char **argv)
{
	return ctl_dispatch(c, NULL, objects, ARRAY_SIZE(objects), NULL, argc, argv);
}

/* 0, CTL_USAGE, or -1: the word in *ret_instead stands for the command. */
static int options(struct ctl *c, int argc, char **argv, const char **ret_instead)
{
	const char *bad_timeout = NULL;
	int o;

	opterr = 0;
	while ((o = getopt_long(argc, argv, "+:jpc:s:f:Vh", long_options, NULL)) != -1) {
		switch (o) {
		case 'p':
			c->pretty = true;
			c->json = true;
			break;
		case 'j':
			c->json = true;
			break;
		case 'c':
			c->config_path = optarg;
			break;
		case 's':
			c->socket_path = optarg;
			break;
		case 'f':
			c->pin_path = optarg;
			break;
		case 't':
			if (text_parse_duration(slice_str(optarg), &c->timeout_ms) ||
			    c->timeout_ms == 0)
				bad_timeout = optarg;
			break;
		case 'V':
			*ret_instead = "version";
			break;
		case 'h':
			*ret_instead = "help";
			break;
		case ':':
			return out_error(c, "usage", "see `tidegate help`",
					 "an option needs a value: %s", argv[optind - 1]);
		default:
			return out_error(c, "usage", "see `tidegate help`", "unknown option: %s",
					 argv[optind - 1]);
		}
	}
	if (bad_timeout)
		return out_error(c, "usage", NULL, "not a duration such as 500ms or 10s: %s",
				 bad_timeout);
	return 0;
}

int main(int argc, char **argv)
{
	struct ctl c = {.timeout_ms = DEFAULT_TIMEOUT_MS};
	const char *instead = NULL;
	char *none[] = {(char[]){"help"}};
	int rc;

	/* Widths of characters; nothing else depends on the locale. */
	if (!setlocale(LC_CTYPE, "C.UTF-8"))
		(void)setlocale(LC_CTYPE, "");
	log_init("tidegate", LOG_LVL_WARNING);
	rc = options(&c, argc, argv, &instead);
	argc -= optind;
	argv += optind;
	if (rc == 0 && instead)
		rc = strcmp(instead, "help") == 0 ? cmd_help(&c, 0, NULL)
						  : cmd_version(&c, 0, NULL);
	else if (rc == 0)
		rc = argc ? ctl_run(&c, argc, argv) : ctl_run(&c, 1, none);
	conf_done(&c);
	if (fflush(stdout) || ferror(stdout)) {
		(void)fprintf(stderr, "Error: the output could not be written\n");
		rc = rc ? rc : CTL_FAILED;
	}
	return rc;
}
