/* SPDX-License-Identifier: MIT */
/*
 * A function of PostgreSQL's own that is immutable or stable does nothing but compute,
 * unless it stands below. A volatile one does what stands below, and every one of
 * them must (a unit test sees to that); one of a newer server is no
 * built-in of ours and counts as a user's.
 *
 * Effects chosen where the words of sqlinfo.h leave a choice:
 *   privilege  also what administers the server or other sessions: signals,
 *              backups, replication slots and origins, statistics resets
 *   session    advisory locks, exported snapshots, random seeds
 *   write      sequences are changed (nextval, setval), large objects are written
 *   file       files of the server, its configuration as stored, server log
 */
#include "inspect/sql/functions.h"

#include <errno.h>
#include <stdlib.h>

#include "inspect/sql/hash.h"
#include "inspect/sql/sqlinfo.h"

enum { SLOTS = 8192 };

struct fn {
	const char *name;
	uint16_t n;
	uint16_t flags;
	uint32_t effects;
};

struct fn_effect {
	const char *names; /* separated by one space */
	uint32_t effects, flags;
};

static const char *const builtin_volatile[] = {
#define V(name) name,
#define S(name)
#define I(name)
#include "inspect/sql/builtin_functions.inc"
#undef V
#undef S
};

static const char *const builtin_other[] = {
#define V(name)
#define S(name) name,
#undef I
#define I(name) name,
#include "inspect/sql/builtin_functions.inc"
#undef V
#undef S
#undef I
};

static const char *const builtin_operators[] = {
#define O(name) name,
#include "inspect/sql/builtin_operators.inc"
#undef O
};

static const struct fn_effect effects[] = {
	/* Nothing but a value. */
	{.names = "random clock_timestamp timeofday gen_random_uuid current_query currtid2 "
		  "currval lastval txid_status pg_xact_status pg_sleep pg_sleep_for "
		  "pg_sleep_until"},
	{.names = "pg_blocking_pids pg_safe_snapshot_blocking_pids pg_lock_status "
		  "pg_isolation_test_session_is_blocked pg_control_checkpoint pg_control_init "
		  "pg_control_recovery pg_control_system pg_collation_actual_version "
		  "pg_database_collation_actual_version pg_current_wal_flush_lsn "
		  "pg_current_wal_insert_lsn pg_current_wal_lsn pg_database_size "
		  "pg_get_backend_memory_contexts pg_get_multixact_members "
		  "pg_get_shmem_allocations pg_get_wal_replay_pause_state "
		  "pg_get_wal_resource_managers pg_indexes_size pg_is_in_recovery "
		  "pg_is_wal_replay_paused pg_jit_available pg_last_committed_xact "
		  "pg_last_wal_receive_lsn pg_last_wal_replay_lsn pg_last_xact_replay_timestamp "
		  "pg_notification_queue_usage pg_partition_ancestors pg_partition_tree "
		  "pg_prepared_xact pg_relation_size pg_sequence_last_value "
		  "pg_show_replication_origin_status pg_replication_origin_progress "
		  "pg_replication_origin_session_is_setup pg_replication_origin_session_progress "
		  "pg_stat_get_recovery_prefetch pg_stat_get_xact_blocks_fetched "
		  "pg_stat_get_xact_blocks_hit pg_stat_get_xact_function_calls "
		  "pg_stat_get_xact_function_self_time pg_stat_get_xact_function_total_time "
		  "pg_stat_get_xact_numscans pg_stat_get_xact_tuples_deleted "
		  "pg_stat_get_xact_tuples_fetched pg_stat_get_xact_tuples_hot_updated "
		  "pg_stat_get_xact_tuples_inserted pg_stat_get_xact_tuples_returned "
		  "pg_stat_get_xact_tuples_updated pg_stat_have_stats pg_table_size "
		  "pg_tablespace_size pg_total_relation_size pg_xact_commit_timestamp "
		  "pg_xact_commit_timestamp_origin"},
	/* Cannot be called from SQL, or only by the machinery they belong to. */
	{.names = "RI_FKey_cascade_del RI_FKey_cascade_upd RI_FKey_check_ins RI_FKey_check_upd "
		  "RI_FKey_noaction_del RI_FKey_noaction_upd RI_FKey_restrict_del "
		  "RI_FKey_restrict_upd RI_FKey_setdefault_del RI_FKey_setdefault_upd "
		  "RI_FKey_setnull_del RI_FKey_setnull_upd amvalidate bernoulli brinhandler "
		  "bthandler "
		  "dsnowball_init dsnowball_lexize ginhandler gisthandler hashhandler "
		  "heap_tableam_handler plpgsql_call_handler plpgsql_inline_handler "
		  "plpgsql_validator spghandler suppress_redundant_updates_trigger system "
		  "tsvector_update_trigger tsvector_update_trigger_column unique_key_recheck"},

	/* pg_locks shows the number, random() is made of the seed. */
	{.names = "pg_advisory_lock pg_advisory_lock_shared pg_advisory_unlock "
		  "pg_advisory_unlock_all pg_advisory_unlock_shared pg_advisory_xact_lock "
		  "pg_advisory_xact_lock_shared pg_try_advisory_lock pg_try_advisory_lock_shared "
		  "pg_try_advisory_xact_lock pg_try_advisory_xact_lock_shared setseed",
	 .effects = SQL_SESSION,
	 .flags = FN_CARRY},
	{.names = "pg_export_snapshot pg_stat_clear_snapshot pg_stat_force_next_flush",
	 .effects = SQL_SESSION},
	{.names = "set_config",
	 .effects = SQL_SESSION,
	 .flags = FN_LITERALS | FN_CARRY | FN_SETTING},
	{.names = "pg_notify", .effects = SQL_SESSION, .flags = FN_LITERALS | FN_CARRY},
	{.names = "nextval setval",
	 .effects = SQL_WRITE,
	 .flags = FN_LITERALS | FN_RELATION | FN_CARRY},
	{.names = "lo_creat lo_create lo_from_bytea lo_put lowrite lo_truncate lo_truncate64 "
		  "lo_unlink pg_logical_emit_message",
	 .effects = SQL_WRITE,
	 .flags = FN_CARRY},
	{.names = "lo_open", .effects = SQL_READ | SQL_WRITE},
	{.names = "lo_get loread lo_tell lo_tell64 lo_close", .effects = SQL_READ},
	{.names = "lo_lseek lo_lseek64", .effects = SQL_READ, .flags = FN_CARRY},
	{.names = "lo_import", .effects = SQL_FILE | SQL_WRITE, .flags = FN_LITERALS},
	{.names = "lo_export", .effects = SQL_FILE | SQL_READ, .flags = FN_LITERALS | FN_CARRY},

	{.names = "pg_read_file pg_read_file_old pg_read_binary_file pg_stat_file pg_ls_dir "
		  "pg_ls_archive_statusdir pg_ls_logdir pg_ls_logicalmapdir pg_ls_logicalsnapdir "
		  "pg_ls_replslotdir pg_ls_tmpdir pg_ls_waldir pg_current_logfile "
		  "pg_hba_file_rules pg_ident_file_mappings pg_show_all_file_settings",
	 .effects = SQL_FILE,
	 .flags = FN_LITERALS},

	{.names = "query_to_xml query_to_xml_and_xmlschema query_to_xmlschema ts_stat ts_rewrite "
		  "schema_to_xml schema_to_xml_and_xmlschema schema_to_xmlschema database_to_xml "
		  "database_to_xml_and_xmlschema database_to_xmlschema cursor_to_xml "
		  "cursor_to_xmlschema",
	 .effects = SQL_READ,
	 .flags = FN_LITERALS | FN_RUNS_TEXT | FN_ALL_COLUMNS},
	{.names = "table_to_xml table_to_xml_and_xmlschema table_to_xmlschema",
	 .effects = SQL_READ,
	 .flags = FN_LITERALS | FN_RELATION | FN_ALL_COLUMNS},

	{.names = "pg_terminate_backend pg_cancel_backend pg_reload_conf pg_rotate_logfile "
		  "pg_rotate_logfile_old pg_switch_wal pg_create_restore_point pg_backup_start "
		  "pg_backup_stop pg_promote pg_wal_replay_pause pg_wal_replay_resume "
		  "pg_log_backend_memory_contexts pg_stat_reset pg_stat_reset_replication_slot "
		  "pg_stat_reset_shared pg_stat_reset_single_function_counters "
		  "pg_stat_reset_single_table_counters pg_stat_reset_slru "
		  "pg_stat_reset_subscription_stats pg_copy_logical_replication_slot "
		  "pg_copy_physical_replication_slot pg_create_logical_replication_slot "
		  "pg_create_physical_replication_slot pg_drop_replication_slot "
		  "pg_replication_slot_advance pg_replication_origin_advance "
		  "pg_replication_origin_create pg_replication_origin_drop "
		  "pg_replication_origin_session_reset pg_replication_origin_session_setup "
		  "pg_replication_origin_xact_reset pg_replication_origin_xact_setup "
		  "pg_extension_config_dump pg_nextoid pg_stop_making_pinned_objects "
		  "binary_upgrade_create_empty_extension binary_upgrade_set_missing_value "
		  "binary_upgrade_set_next_array_pg_type_oid "
		  "binary_upgrade_set_next_attribute_versions "
		  "binary_upgrade_set_next_heap_pg_class_oid "
		  "binary_upgrade_set_next_heap_relfilenode "
		  "binary_upgrade_set_next_index_pg_class_oid "
		  "binary_upgrade_set_next_index_relfilenode "
		  "binary_upgrade_set_next_multirange_array_pg_type_oid "
		  "binary_upgrade_set_next_multirange_pg_type_oid "
		  "binary_upgrade_set_next_pg_authid_oid binary_upgrade_set_next_pg_enum_oid "
		  "binary_upgrade_set_next_pg_tablespace_oid binary_upgrade_set_next_pg_type_oid "
		  "binary_upgrade_set_next_toast_pg_class_oid "
		  "binary_upgrade_set_next_toast_relfilenode binary_upgrade_set_record_init_privs",
	 .effects = SQL_PRIVILEGE,
	 .flags = FN_LITERALS | FN_CARRY},
	/* The log of changes has every column of every table. */
	{.names = "pg_logical_slot_get_binary_changes pg_logical_slot_get_changes "
		  "pg_logical_slot_peek_binary_changes pg_logical_slot_peek_changes",
	 .effects = SQL_PRIVILEGE | SQL_READ,
	 .flags = FN_LITERALS | FN_RUNS_TEXT | FN_ALL_COLUMNS},
	{.names = "brin_desummarize_range brin_summarize_new_values brin_summarize_range "
		  "gin_clean_pending_list",
	 .effects = SQL_DDL,
	 .flags = FN_LITERALS | FN_RELATION},
	{.names = "pg_import_system_collations", .effects = SQL_DDL},

	/* Functions that show the row they are given, also as row.f without parentheses. */
	{.names = "to_json to_jsonb row_to_json json_agg jsonb_agg array_agg json_build_array "
		  "jsonb_build_array json_build_object jsonb_build_object concat quote_literal "
		  "quote_nullable record_out record_send anyelement_out anynonarray_out any_out "
		  "anycompatible_out anycompatiblenonarray_out",
	 .flags = FN_ROW},
	/* Take the names of objects as text. */
	{.names = "to_regclass to_regproc to_regprocedure has_table_privilege "
		  "has_any_column_privilege has_column_privilege has_sequence_privilege "
		  "has_function_privilege pg_get_serial_sequence",
	 .flags = FN_LITERALS},

	/* adminpack, which installs into pg_catalog */
	{.names = "pg_file_write pg_file_rename pg_file_unlink pg_file_sync pg_logdir_ls "
		  "pg_file_read pg_file_length pg_logfile_rotate",
	 .effects = SQL_FILE,
	 .flags = FN_LITERALS | FN_CARRY},
	/* dblink */
	{.names = "dblink dblink_exec dblink_open dblink_send_query",
	 .effects = SQL_PROCEDURE,
	 .flags = FN_LITERALS | FN_CARRY | FN_RUNS_TEXT | FN_ALL_COLUMNS},
	{.names = "dblink_connect dblink_connect_u",
	 .effects = SQL_PROCEDURE,
	 .flags = FN_LITERALS | FN_CARRY},
	{.names = "dblink_fetch dblink_get_result dblink_get_notify dblink_build_sql_insert "
		  "dblink_build_sql_update dblink_build_sql_delete",
	 .effects = SQL_PROCEDURE,
	 .flags = FN_LITERALS | FN_ALL_COLUMNS},
	/* xml2, tablefunc: run the text they are given */
	{.names = "xpath_table crosstab crosstab2 crosstab3 crosstab4 crosstabn connectby",
	 .effects = SQL_PROCEDURE,
	 .flags = FN_LITERALS | FN_RUNS_TEXT | FN_ALL_COLUMNS},
};

struct fn_table {
	uint16_t slots[SLOTS]; /* fn + 1; 0: free */
	uint16_t op_slots[256];
	uint32_t n, cap;
	struct fn fns[];
};

static uint32_t find(const struct fn_table *t, const char *name, size_t n)
{
	uint32_t i = sql_hash32(name, n) & (SLOTS - 1);

	while (t->slots[i]) {
		const struct fn *f = &t->fns[t->slots[i] - 1];

		if (f->n == n && memcmp(f->name, name, n) == 0)
			break;
		i = (i + 1) & (SLOTS - 1);
	}
	return i;
}

static struct fn *enter(struct fn_table *t, const char *name, size_t n)
{
	uint32_t i = find(t, name, n);

	if (!t->slots[i]) {
		BUG_ON(t->n == t->cap || t->n >= SLOTS / 2);
		t->fns[t->n] = (struct fn){.name = name, .n = (uint16_t)n};
		t->slots[i] = (uint16_t)++t->n;
	}
	return &t->fns[t->slots[i] - 1];
}

static void enter_all(struct fn_table *t, const char *const *names, size_t n, uint16_t flags)
{
	for (size_t i = 0; i < n; i++)
		enter(t, names[i], strlen(names[i]))->flags |= flags;
}

static void enter_effects(struct fn_table *t, const struct fn_effect *e)
{
	const char *p = e->names;

	while (*p) {
		size_t n = strcspn(p, " ");
		struct fn *f = enter(t, p, n);

		f->effects |= e->effects;
		f->flags |= (uint16_t)(e->flags | FN_REVIEWED);
		p += n + (p[n] == ' ');
	}
}

int fn_table_new(struct fn_table **ret)
{
	uint32_t cap = ARRAY_SIZE(builtin_volatile) + ARRAY_SIZE(builtin_other) + 64;
	struct fn_table *t = calloc(1, sizeof(*t) + cap * sizeof(t->fns[0]));

	if (!t)
		return -ENOMEM;
	t->cap = cap;
	enter_all(t, builtin_volatile, ARRAY_SIZE(builtin_volatile), FN_BUILTIN | FN_VOLATILE);
	enter_all(t, builtin_other, ARRAY_SIZE(builtin_other), FN_BUILTIN);
	for (size_t i = 0; i < ARRAY_SIZE(effects); i++)
		enter_effects(t, &effects[i]);
	for (size_t i = 0; i < ARRAY_SIZE(builtin_operators); i++) {
		const char *op = builtin_operators[i];
		uint32_t at = sql_hash32(op, strlen(op)) & 255;

		while (t->op_slots[at])
			at = (at + 1) & 255;
		t->op_slots[at] = (uint16_t)(i + 1);
	}
	*ret = t;
	return 0;
}

void fn_table_free(struct fn_table *t)
{
	free(t);
}

struct fn_known fn_lookup(const struct fn_table *t, struct slice name)
{
	uint16_t at = t->slots[find(t, (const char *)name.p, name.n)];

	if (!at)
		return (struct fn_known){0};
	return (struct fn_known){.effects = t->fns[at - 1].effects, .flags = t->fns[at - 1].flags};
}

bool op_is_builtin(const struct fn_table *t, struct slice name)
{
	uint32_t i = sql_hash32(name.p, name.n) & 255;

	for (; t->op_slots[i]; i = (i + 1) & 255)
		if (slice_eq_str(name, builtin_operators[t->op_slots[i] - 1]))
			return true;
	return false;
}

struct slice fn_name(const struct fn_table *t, uint32_t i)
{
	return i < t->n ? slice_of(t->fns[i].name, t->fns[i].n) : (struct slice){0};
}
