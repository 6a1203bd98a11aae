//! Fetches a page by HTTP from hosts that are granted.

mod bindings {
    #![allow(
        missing_docs,
        unsafe_code,
        reason = "the generated canonical ABI glue is unsafe by nature"
    )]
    wit_bindgen::generate!({ path: "wit", world: "fetch" });
    use super::Fetch;
    export!(Fetch);
}

use bindings::exports::tools::fetch::web::{FetchError, Guest, Header, Method, Request, Response};
use wasip2::http::outgoing_handler::handle;
use wasip2::http::types::{
    ErrorCode, Fields, IncomingResponse, Method as Verb, OutgoingRequest, RequestOptions, Scheme,
};
use wasip2::io::streams::StreamError;

/// Most bytes of a body that are returned.
const BODY_BYTES: u32 = 256 * 1024;

/// Bytes that are read at a time.
const PIECE_BYTES: u64 = 16 * 1024;

/// Longest time for a step, in milliseconds.
const STEP_MILLISECONDS: u32 = 60_000;

struct Fetch;

impl Guest for Fetch {
    fn fetch(request: Request) -> Result<Response, FetchError> {
        let bounded = |what: &str, asked: u32, least: u32, most: u32| match asked {
            asked if (least..=most).contains(&asked) => Ok(()),
            _ => Err(FetchError::BadLimit(format!(
                "{what} is not within {least}..={most}"
            ))),
        };
        bounded("max-body-bytes", request.max_body_bytes, 0, BODY_BYTES)?;
        let time = request.timeout_milliseconds;
        bounded("timeout-milliseconds", time, 1, STEP_MILLISECONDS)?;
        let answer = sent(&request)?;
        let headers = answer.headers().entries();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let headers = headers.iter().map(|(name, value)| Header {
            name: name.to_ascii_lowercase(),
            value: text(value),
        });
        let headers = headers.collect();
        let (body, cut) = body(&answer, u64::from(request.max_body_bytes))?;
        Ok(Response {
            status: answer.status(),
            headers,
            body: text(&body),
            cut,
        })
    }
}

/// The parts of an address.
fn parts(url: &str) -> Result<(Scheme, &str, &str), FetchError> {
    let bad = |what: &str| FetchError::BadUrl(format!("{url:?}: {what}"));
    let (scheme, rest) = url.split_once("://").ok_or_else(|| bad("no scheme"))?;
    let scheme = match scheme {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        _ => return Err(bad("neither http nor https")),
    };
    let rest = rest.split('#').next().unwrap_or(rest);
    let path = rest.find(['/', '?']).unwrap_or(rest.len());
    let (host, path) = rest.split_at(path);
    match host {
        "" => Err(bad("no host")),
        host if host.contains('@') => Err(bad("a user's name or password")),
        host => Ok((scheme, host, path)),
    }
}

fn sent(request: &Request) -> Result<IncomingResponse, FetchError> {
    let (scheme, host, path) = parts(&request.url)?;
    let bad = |()| FetchError::BadUrl(format!("{:?}", request.url));
    let outgoing = OutgoingRequest::new(Fields::new());
    let verb = match request.method {
        Method::Get => Verb::Get,
        Method::Head => Verb::Head,
    };
    let path = match path.starts_with('/') {
        true => path.to_owned(),
        false => format!("/{path}"),
    };
    outgoing.set_method(&verb).map_err(bad)?;
    outgoing.set_scheme(Some(&scheme)).map_err(bad)?;
    outgoing.set_authority(Some(host)).map_err(bad)?;
    outgoing.set_path_with_query(Some(&path)).map_err(bad)?;
    let options = RequestOptions::new();
    let nanoseconds = Some(u64::from(request.timeout_milliseconds) * 1_000_000);
    let unsupported = |()| FetchError::Failed(String::from("the host has no timeouts"));
    options
        .set_connect_timeout(nanoseconds)
        .and_then(|()| options.set_first_byte_timeout(nanoseconds))
        .and_then(|()| options.set_between_bytes_timeout(nanoseconds))
        .map_err(unsupported)?;
    let failed = |code: ErrorCode| match code {
        ErrorCode::HttpRequestDenied => FetchError::NotGranted(host.to_owned()),
        ErrorCode::ConnectionTimeout
        | ErrorCode::ConnectionReadTimeout
        | ErrorCode::ConnectionWriteTimeout
        | ErrorCode::HttpResponseTimeout => FetchError::TimedOut,
        code => FetchError::Failed(format!("{code:?}")),
    };
    let answer = handle(outgoing, Some(options)).map_err(failed)?;
    answer.subscribe().block();
    let answer = answer.get().and_then(Result::ok);
    let missing = || FetchError::Failed(String::from("no answer"));
    answer.ok_or_else(missing)?.map_err(failed)
}

/// The body as far as it is wanted, and whether there is more.
fn body(answer: &IncomingResponse, most: u64) -> Result<(Vec<u8>, bool), FetchError> {
    let taken = |()| FetchError::Failed(String::from("no body"));
    let incoming = answer.consume().map_err(taken)?;
    let stream = incoming.stream().map_err(taken)?;
    let mut body = Vec::new();
    loop {
        let left = most - body.len() as u64;
        // One byte beyond what is wanted tells whether there is more.
        match stream.blocking_read((left + 1).min(PIECE_BYTES)) {
            Ok(bytes) if bytes.len() as u64 > left => {
                body.extend(bytes.into_iter().take(left as usize));
                return Ok((body, true));
            }
            Ok(bytes) => body.extend(bytes),
            Err(StreamError::Closed) => return Ok((body, false)),
            Err(StreamError::LastOperationFailed(error)) => {
                return Err(FetchError::Failed(error.to_debug_string()));
            }
        }
    }
}
