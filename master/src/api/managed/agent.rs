//! What a writer is called: what it says of itself, or else the program that its User-Agent names.

use protocol::ApiRequest;

const BYTES_MAX: usize = 128;

/// The manager of a request's fields.
pub fn manager(request: &ApiRequest) -> String {
    match request.options.field_manager.as_deref() {
        Some(name) if !name.is_empty() => name.to_owned(),
        _ => program(&request.user_agent),
    }
}

/// The part of a User-Agent before the first slash, without what cannot be printed.
fn program(agent: &str) -> String {
    let mut name = String::new();
    for c in agent.split('/').next().unwrap_or_default().chars().filter(|c| !c.is_control()) {
        if name.len() + c.len_utf8() > BYTES_MAX {
            break;
        }
        name.push(c);
    }
    name
}

#[cfg(test)]
mod tests {
    use super::program;

    #[test]
    fn programs_are_named_by_their_agents() {
        let long = "x".repeat(200);
        let cases = [
            ("kubectl/v1.36.0 (linux/amd64) kubernetes/abc", "kubectl"),
            ("golden-replay", "golden-replay"),
            ("a\u{7}b/1", "ab"),
            ("", ""),
            (long.as_str(), &long[..128]),
        ];
        for (agent, name) in cases {
            assert_eq!(program(agent), name, "{agent}");
        }
    }
}
