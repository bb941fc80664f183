//! What a server wants of the user in the middle of a call, in both eras: requests of its own in the legacy one, members
//! of an unfinished result in the modern one. Here each is made of the other.

use super::envelope::quote;
use super::features::Feature;
use super::meta::{self, members};
use super::{params, scan};
use crate::base::limits::INPUT_QUESTIONS_MAX;

/// The requests whose results may ask for something first.
pub fn may_ask(method: &str) -> bool {
    matches!(method, "tools/call" | "prompts/get" | "resources/read")
}

/// Whether a modern result is one that asks for something first.
pub fn is_unfinished(result: &str) -> bool {
    result.contains("input_required")
        && params::text(result, "resultType").as_deref() == Some("input_required")
}

/// An unfinished result: what is to be answered, and what comes back with the answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub requests: Vec<Request>,
    /// Raw.
    pub state: Option<Box<str>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Its name among the others, a raw JSON string.
    pub key: Box<str>,
    pub method: Box<str>,
    /// Raw.
    pub params: Box<str>,
}

/// Reads one; the error says what is wrong with it.
pub fn wanted(result: &str) -> Result<Wanted, String> {
    let state = scan::find(result, "requestState").map(|span| Box::from(&result[span]));
    let mut requests = Vec::new();
    if let Some(span) = scan::find(result, "inputRequests") {
        let map = &result[span];
        let mut wrong = None;
        let read = scan::object(map, |member| {
            let (key, one) = (&map[member.key], &map[member.value]);
            let Some(method) = params::text(one, "method") else {
                wrong = Some(format!("its question {key} is no request"));
                return;
            };
            let params = scan::find(one, "params").map_or("{}", |span| &one[span]);
            requests.push(Request { key: key.into(), method: method.into(), params: params.into() });
        });
        if read.is_err() {
            return Err("its questions are no object".to_owned());
        }
        if let Some(wrong) = wrong {
            return Err(wrong);
        }
    }
    match requests.len() {
        0 if state.is_none() => Err("it asks for nothing, and gives nothing to come again with".to_owned()),
        0..=INPUT_QUESTIONS_MAX => Ok(Wanted { requests, state }),
        more => Err(format!("it asks {more} questions at once")),
    }
}

/// A question of a modern server as the params of a request to a legacy client. There a page to visit has a name; `id`
/// is one, for a page that has none.
pub fn params_to_legacy(request: &Request, id: u64) -> String {
    let is_page = *request.method == *"elicitation/create"
        && params::text(&request.params, "mode").as_deref() == Some("url");
    match is_page && scan::find(&request.params, "elicitationId").is_none() {
        true => members(&request.params, &[("elicitationId", Some(&format!("\"elicitation-{id}\"")))]),
        false => request.params.to_string(),
    }
}

/// The params of a call that is made again, with the raw answers by their raw keys and what the server gave.
pub fn again<'a>(
    params: &str,
    answers: impl Iterator<Item = (&'a str, &'a str)>,
    state: Option<&str>,
) -> String {
    let answers: Vec<String> = answers.map(|(key, answer)| format!("{key}:{answer}")).collect();
    let answers = (!answers.is_empty()).then(|| format!("{{{}}}", answers.join(",")));
    members(params, &[("inputResponses", answers.as_deref()), ("requestState", state)])
}

/// The name of a legacy server's question among those of its round, where it had none.
pub fn key(method: &str, number: usize) -> String {
    let feature = Feature::of_method(method).map_or("question", Feature::name);
    format!("{feature}-{number}")
}

/// A legacy server's question for a modern client: without what names it, or its progress, between the two.
pub fn to_modern(method: &str, params: Option<&str>) -> String {
    let params = members(params.unwrap_or("{}"), &[("elicitationId", None)]);
    let params =
        meta::edit(&params, &[("progressToken", None), ("io.modelcontextprotocol/related-task", None)]);
    format!("{{\"method\":{},\"params\":{params}}}", quote(method))
}

/// An unfinished result of ours; `questions` by their names, `state` quoted.
pub fn unfinished<'a>(
    questions: impl Iterator<Item = (&'a str, &'a str)>,
    state: &str,
    server_info: Option<&str>,
) -> String {
    let questions: Vec<String> = questions.map(|(key, question)| format!("\"{key}\":{question}")).collect();
    let result = format!(
        "{{\"resultType\":\"input_required\",\"inputRequests\":{{{}}},\"requestState\":{state}}}",
        questions.join(",")
    );
    match server_info {
        Some(info) => meta::edit(&result, &[(meta::SERVER_INFO, Some(info))]),
        None => result,
    }
}

/// What a modern client answers to the question of this name, as a result of the legacy era; nothing if it does not.
pub fn answered(params: &str, key: &str) -> Option<String> {
    let answers = &params[scan::find(params, "inputResponses")?];
    let answer = &answers[scan::find(answers, key)?];
    answer.starts_with('{').then(|| meta::result_to_legacy(answer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_modern_server_wants() {
        #[track_caller]
        fn check(result: &str, expected: &str) {
            let found = match wanted(result) {
                Ok(Wanted { requests, state }) => {
                    let one = |one: &Request| format!("{} {} {}", one.key, one.method, one.params);
                    let all: Vec<String> = requests.iter().map(one).collect();
                    format!("{} / {}", all.join(", "), state.as_deref().unwrap_or("-"))
                }
                Err(why) => why,
            };
            assert_eq!(found, expected, "{result}");
        }
        check(r#"{"requestState":"\u0078"}"#, r#" / "\u0078""#);
        check(
            r#"{"inputRequests":{"a\"":{"method":"roots/list"}, "b":{"params":{"n":1e400},"method":"elicitation/create"}}}"#,
            r#""a\"" roots/list {}, "b" elicitation/create {"n":1e400} / -"#,
        );
        check("{}", "it asks for nothing, and gives nothing to come again with");
        check(r#"{"inputRequests":{}}"#, "it asks for nothing, and gives nothing to come again with");
        check(r#"{"inputRequests":[]}"#, "its questions are no object");
        check(r#"{"inputRequests":{"a":1}}"#, "its question \"a\" is no request");
        let many: Vec<String> = (0..33).map(|n| format!(r#""{n}":{{"method":"roots/list"}}"#)).collect();
        check(&format!(r#"{{"inputRequests":{{{}}}}}"#, many.join(",")), "it asks 33 questions at once");
        assert!(is_unfinished(r#"{"resultType":"input_required"}"#));
        assert!(!is_unfinished(r#"{"resultType":"complete","text":"input_required"}"#));
    }

    #[test]
    fn pages_have_names_in_the_legacy_era() {
        let one = |method: &str, params: &str| Request {
            key: "\"k\"".into(),
            method: method.into(),
            params: params.into(),
        };
        let page = one("elicitation/create", r#"{"mode":"url","url":"x"}"#);
        assert_eq!(params_to_legacy(&page, 7), r#"{"mode":"url","url":"x","elicitationId":"elicitation-7"}"#);
        let form = one("elicitation/create", r#"{"mode":"form","message":"m"}"#);
        assert_eq!(params_to_legacy(&form, 7), &*form.params);
        assert_eq!(
            to_modern(
                "elicitation/create",
                Some(r#"{"mode":"url","elicitationId":"e","_meta":{"progressToken":1}}"#)
            ),
            r#"{"method":"elicitation/create","params":{"mode":"url"}}"#
        );
        assert_eq!(to_modern("roots/list", None), r#"{"method":"roots/list","params":{}}"#);
    }

    #[test]
    fn calls_made_again() {
        let params = r#"{"name":"x", "arguments":{"n":1e400}}"#;
        let answers = [("\"a\\\"\"", "{\"n\":-0}"), ("\"b\"", "{}")];
        assert_eq!(
            again(params, answers.into_iter(), Some(r#""\u0078""#)),
            r#"{"name":"x", "arguments":{"n":1e400},"inputResponses":{"a\"":{"n":-0},"b":{}},"requestState":"\u0078"}"#
        );
        assert_eq!(again("{}", [].into_iter(), Some("\"s\"")), r#"{"requestState":"s"}"#);
        // What was there of a round before goes.
        let before = r#"{"requestState":"s","inputResponses":{}}"#;
        assert_eq!(again(before, [("\"a\"", "{}")].into_iter(), None), r#"{"inputResponses":{"a":{}}}"#);
    }

    #[test]
    fn unfinished_results_of_ours() {
        let (name, question) = (key("sampling/createMessage", 1), to_modern("sampling/createMessage", None));
        let questions = [(name.as_str(), question.as_str())];
        assert_eq!(
            unfinished(questions.into_iter(), "\"s\"", Some(r#"{"name":"e"}"#)),
            r#"{"resultType":"input_required","inputRequests":{"sampling-1":{"method":"sampling/createMessage","params":{}}},"requestState":"s","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"e"}}}"#
        );
        let params = r#"{"inputResponses":{"a":{"action":"accept","resultType":"complete"},"b":7}}"#;
        assert_eq!(answered(params, "a").as_deref(), Some(r#"{"action":"accept"}"#));
        assert_eq!(answered(params, "b"), None);
        assert_eq!(answered(params, "c"), None);
        assert_eq!(answered("{}", "a"), None);
        assert_eq!(answered(r#"{"inputResponses":null}"#, "a"), None);
    }
}
