/* SPDX-License-Identifier: MIT */
/* tidegated: the command line, and which process this one is to be. */
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <signal.h>

#include "base/log.h"
#include "base/text.h"
#include "config/config.h"
#include "daemon/ipc.h"
#include "daemon/parent.h"
#include "daemon/upgrade.h"
#include "tidegate_ctl.h"

static const char usage[] =
	"usage: tidegated [-c FILE] [-l LEVEL]\n"
	"       tidegated --check [-c FILE]\n"
	"       tidegated --pin [-c FILE]\n"
	"\n"
	"  -c, --config FILE   configuration (default " TG_CTL_CONFIG ")\n"
	"  -l, --log LEVEL     error, warning, notice, info, debug\n"
	"      --check         checks the configuration and exits\n"
	"      --pin           loads and pins the programs, refusing agents, and exits\n"
	"  -V, --version\n"
	"\n"
	"SIGHUP reloads the configuration, SIGUSR2 upgrades in place, SIGTERM lets sessions finish and exits.\n"
	"The manual is tidegate(8); the configuration is described in tidegate.yaml(5).\n";

/* A child that the parent has started: its end of the pair is descriptor 3. */
static int run_role(const char *role, const char *name, enum log_level level)
{
	static const struct rlimit none = {0, 0};

	/* Without a parent there is nobody to ask: the end comes with its end. */
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);

	(void)setrlimit(RLIMIT_CORE, &none); /* what it has in memory is not for a file */
	(void)signal(SIGPIPE, SIG_IGN);
	(void)signal(SIGINT, SIG_IGN);
	(void)signal(SIGHUP, SIG_IGN);
	log_init(name, level);
	/* Reads the zone's file once, while files may be read. */
	tzset();
	if (strcmp(role, "worker") == 0)
		return worker_main();
	if (strcmp(role, "keyd") == 0)
		return keyd_main();
	if (strcmp(role, "authd") == 0)
		return authd_main();
	if (strcmp(role, "named") == 0)
		return named_main();
	if (strcmp(role, "roled") == 0)
		return roled_main();
	return 2;
}

static int check(const char *path)
{
	struct config *cfg;
	struct buf error;
	int rc;

	buf_init(&error, 1 << 20);
	rc = config_load(path, &cfg, &error);
	if (rc) {
		(void)fwrite(buf_data(&error), 1, error.n, stderr);
		buf_done(&error);
		return 1;
	}
	printf("%s: ok: %u targets, %u agents\n", path, cfg->ntargets, cfg->nagents);
	config_free(cfg);
	buf_done(&error);
	return 0;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"config", required_argument, NULL, 'c'}, {"log", required_argument, NULL, 'l'},
		{"check", no_argument, NULL, 'k'},	  {"version", no_argument, NULL, 'V'},
		{"help", no_argument, NULL, 'h'},	  {"role", required_argument, NULL, 'r'},
		{"name", required_argument, NULL, 'n'},	  {"pin", no_argument, NULL, 'p'},
		{"handover", required_argument, NULL, 'H'},
		{"handover-check", required_argument, NULL, 'C'},
		{"log-first", required_argument, NULL, 'L'}, /* until the configuration is there */
		{NULL, 0, NULL, 0},
	};
	const char *path = TG_CTL_CONFIG, *role = NULL, *name = "child", *spec = NULL;
	uint64_t handover = 0;
	enum log_level level = LOG_LVL_INFO;
	bool only_check = false, only_pin = false;
	int o;

	while ((o = getopt_long(argc, argv, "c:l:Vh", options, NULL)) != -1) {
		switch (o) {
		case 'c':
			path = optarg;
			break;
		case 'l':
			log_keep_level();
			/* fall through */
		case 'L':
			if (log_level_parse(optarg, &level)) {
				fprintf(stderr, "tidegated: unknown log level %s\n%s", optarg, usage);
				return 2;
			}
			break;
		case 'k':
			only_check = true;
			break;
		case 'p':
			only_pin = true;
			break;
		case 'r':
			role = optarg;
			break;
		case 'n':
			name = optarg;
			break;
		case 'H':
			if (text_parse_u64(slice_str(optarg), 3, INT_MAX, &handover))
				return 2;
			break;
		case 'C':
			spec = optarg;
			break;
		case 'V':
			puts("tidegated " TIDEGATE_VERSION);
			return 0;
		case 'h':
			fputs(usage, stdout);
			return 0;
		default:
			fputs(usage, stderr);
			return 2;
		}
	}
	if (optind != argc) {
		fprintf(stderr, "tidegated: unexpected argument %s\n%s", argv[optind], usage);
		return 2;
	}
	if (role)
		return run_role(role, name, level);
	if (only_check)
		return check(path);
	log_init(only_pin ? "pin" : "parent", level);
	if (spec)
		return handover_check(spec);
	return only_pin ? parent_pin(path) : parent_main(path, handover ? (int)handover : -1);
}
