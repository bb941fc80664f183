//! Keys that are known and not read, with what to say about each. What is read needs no table: the code that
//! reads a section asks for its keys by name (`fields.rs`).

/// A key and its standing.
#[derive(Debug)]
pub struct Key {
    pub name: &'static str,
    pub standing: Standing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Will be honoured by a later version; what happens meanwhile, or nothing.
    Later(&'static str),
    /// Another program's name for this key of ours.
    Instead(&'static str),
    /// Means something to another program only.
    Foreign,
    /// What mcpproxy learnt and wrote into its config.
    Fact,
    /// Means nothing, and that is fine.
    Silent,
}

const fn key(name: &'static str, standing: Standing) -> Key {
    Key { name, standing }
}

const fn later(name: &'static str) -> Key {
    key(name, Standing::Later(""))
}

const fn instead(name: &'static str, other: &'static str) -> Key {
    key(name, Standing::Instead(other))
}

const fn foreign(name: &'static str) -> Key {
    key(name, Standing::Foreign)
}

const fn fact(name: &'static str) -> Key {
    key(name, Standing::Fact)
}

/// Of one server.
pub const SERVER: &[Key] = &[
    key("enabled_tools", Standing::Later("all its tools are offered")),
    key("disabled_tools", Standing::Later("all its tools are offered")),
    later("keep_processes"),
    later("oauth"),
    later("reload"),
    later("sharing"),
    // Other programs' names for what we have.
    instead("arguments", "`args`"),
    instead("auto_disable_threshold", "`auto_disable.failure_threshold`"),
    instead("cmd", "`command`"),
    instead("environment", "`env`"),
    instead("init_timeout", "`connection_timeout`"),
    instead("health_check", "`health_check_interval`"),
    instead("timeout", "`call_timeout`, in seconds"),
    // Cline, Cursor, Claude Code, mcpproxy.
    foreign("alwaysAllow"),
    foreign("autoApprove"),
    foreign("auth_broker"),
    foreign("description"),
    foreign("expose_prompts"),
    foreign("launcher_wait_timeout"),
    foreign("reconnect_on_use"),
    foreign("shared"),
    foreign("source_registry_id"),
    foreign("source_registry_provenance"),
    foreign("tool_discovery_interval"),
    foreign("toon_output"),
    foreign("trust_mode"),
    fact("auto_disabled"),
    fact("auto_disable_reason"),
    fact("created"),
    fact("ever_connected"),
    fact("last_successful_connection"),
    fact("tool_count"),
    fact("updated"),
];

/// Of the file.
pub const GLOBAL: &[Key] = &[
    key("$schema", Standing::Silent),
    key("disable_management", Standing::Later("management is not disabled")),
    key("enable_lazy_loading", Standing::Later("servers are started at once")),
    instead("groups", "`groups` in each entry of `mcpServers`"),
    later("profiles"),
    key("read_only_mode", Standing::Later("calls are not restricted")),
    later("routing_mode"),
    later("tool_response_limit"),
    instead("servers", "`mcpServers`"),
    instead("mcp_servers", "`mcpServers`"),
    instead("auto_disable_threshold", "`auto_disable.failure_threshold`"),
    instead("health_check_interval", "`connection_management.health_check_interval_seconds`"),
    instead("init_timeout", "`connection_management.connection_timeout_seconds`"),
    instead("max_concurrent_connections", "`connection_management.max_concurrent_connections`"),
    instead("log_level", "`logging.level`"),
    // mcpproxy and Claude Desktop.
    foreign("activity_cleanup_interval"),
    foreign("activity_cleanup_interval_min"),
    foreign("activity_max_records"),
    foreign("activity_max_response_size"),
    foreign("activity_max_size_mb"),
    foreign("activity_retention_days"),
    foreign("aggregate_upstream_prompts"),
    foreign("allow_private_registry_fetch"),
    foreign("allow_server_add"),
    foreign("allow_server_remove"),
    foreign("check_server_repo"),
    foreign("code_execution_max_parallel"),
    foreign("code_execution_max_tool_calls"),
    foreign("code_execution_pool_size"),
    foreign("code_execution_timeout_ms"),
    foreign("debug_search"),
    foreign("enable_code_execution"),
    foreign("enable_prompts"),
    foreign("enable_socket"),
    foreign("enable_tray"),
    foreign("environment"),
    foreign("features"),
    foreign("forward_proxy_env"),
    foreign("globalShortcut"),
    foreign("http_idle_timeout"),
    foreign("http_read_timeout"),
    foreign("http_write_timeout"),
    foreign("inputs"),
    foreign("instructions"),
    foreign("intent_declaration"),
    foreign("llm"),
    foreign("max_concurrent_requests"),
    foreign("max_result_size_chars"),
    foreign("oauth_expiry_warning_hours"),
    foreign("observability"),
    foreign("output_sanitisation"),
    foreign("output_validation"),
    foreign("persist_auto_disable_to_config"),
    foreign("preferences"),
    foreign("quarantine_enabled"),
    foreign("queue_size"),
    foreign("queue_timeout"),
    foreign("registries"),
    foreign("registries_locked"),
    foreign("require_mcp_auth"),
    foreign("reveal_secret_headers"),
    foreign("security"),
    foreign("semantic_search"),
    foreign("sensitive_data_detection"),
    foreign("server_concurrency_defaults"),
    foreign("server_edition"),
    foreign("server_group_assignments"),
    foreign("startup_script"),
    foreign("telemetry"),
    foreign("tls"),
    foreign("tokenizer"),
    foreign("tool_cache_ttl"),
    foreign("tool_discovery_interval"),
    foreign("tool_response_mode"),
    foreign("tools_limit"),
    foreign("toon_min_savings_pct"),
    foreign("toon_output"),
    foreign("top_k"),
    foreign("tray_endpoint"),
    foreign("update_check"),
];

/// Of `docker_isolation`.
pub const DOCKER_ISOLATION: &[Key] = &[
    instead("timeout", "`connection_management.connection_timeout_seconds`, or `pull_timeout` here"),
    instead("image", "`default_images`"),
    instead("network", "`network_mode`"),
];

/// Of an entry's `isolation`.
pub const ISOLATION: &[Key] = &[
    instead("engine", "`engine` beside `isolation`"),
    instead("env", "`env` beside `isolation`"),
    instead("network", "`network_mode`"),
    instead("pull", "`pull` beside `isolation`"),
    instead("volumes", "`mounts`"),
];

pub const LOGGING: &[Key] = &[
    foreign("compress"),
    foreign("enable_console"),
    foreign("enable_file"),
    foreign("filename"),
    foreign("json_format"),
    foreign("log_dir"),
    foreign("max_age"),
    foreign("max_backups"),
    foreign("max_size"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_is_listed_twice() {
        for table in [SERVER, GLOBAL, DOCKER_ISOLATION, ISOLATION, LOGGING] {
            let mut names: Vec<_> = table.iter().map(|key| key.name).collect();
            names.sort_unstable();
            assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
        }
    }
}
