//! Requests by `wasi:http`.

use wasip2::http::outgoing_handler::handle;
use wasip2::http::types::{
    Fields, IncomingBody, IncomingResponse, Method, OutgoingBody, OutgoingRequest, RequestOptions,
    Scheme,
};
use wasip2::io::streams::{InputStream, StreamError};

/// Most bytes of an answer that are told.
const TOLD_BYTES: usize = 256;

/// Bytes of a body that are written at a time.
const PIECE_BYTES: u64 = 4096;

/// A request to be sent.
pub(crate) struct Request {
    method: Method,
    scheme: Scheme,
    authority: String,
    path: String,
    headers: Fields,
    options: Option<RequestOptions>,
    body: Option<u64>,
}

fn refused(part: &str) -> impl Fn(()) -> String {
    let told = format!("no {part}");
    move |()| told.clone()
}

impl Request {
    pub(crate) fn to(method: &str, url: &str) -> Result<Self, String> {
        let (scheme, rest) = url.split_once("://").ok_or("no scheme")?;
        let path = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(path);
        Ok(Self {
            method: match method {
                "GET" => Method::Get,
                "POST" => Method::Post,
                "CONNECT" => Method::Connect,
                other => Method::Other(other.to_owned()),
            },
            scheme: match scheme {
                "http" => Scheme::Http,
                "https" => Scheme::Https,
                other => Scheme::Other(other.to_owned()),
            },
            authority: authority.to_owned(),
            path: path.to_owned(),
            headers: Fields::new(),
            options: None,
            body: None,
        })
    }

    pub(crate) fn within(mut self, milliseconds: u64) -> Self {
        let options = RequestOptions::new();
        let nanoseconds = Some(milliseconds.saturating_mul(1_000_000));
        // The host takes all of them or says later that it does not.
        let _ = options.set_connect_timeout(nanoseconds);
        let _ = options.set_first_byte_timeout(nanoseconds);
        let _ = options.set_between_bytes_timeout(nanoseconds);
        self.options = Some(options);
        self
    }

    pub(crate) fn header(self, bytes: u32) -> Result<Self, String> {
        let value = vec![b'x'; bytes as usize];
        let appended = self.headers.append("x-long", &value);
        appended.map_err(|error| format!("{error:?}"))?;
        Ok(self)
    }

    pub(crate) fn body(mut self, bytes: u64) -> Self {
        self.body = Some(bytes);
        self
    }

    pub(crate) fn send(self) -> Result<IncomingResponse, String> {
        let request = OutgoingRequest::new(self.headers);
        request
            .set_method(&self.method)
            .map_err(refused("method"))?;
        request
            .set_scheme(Some(&self.scheme))
            .map_err(refused("scheme"))?;
        request
            .set_authority(Some(&self.authority))
            .map_err(refused("authority"))?;
        request
            .set_path_with_query(Some(&self.path))
            .map_err(refused("path"))?;
        let body = match self.body {
            Some(bytes) => Some((request.body().map_err(refused("body"))?, bytes)),
            None => None,
        };
        let answer = handle(request, self.options).map_err(|code| format!("{code:?}"))?;
        if let Some((body, bytes)) = body {
            write(body, bytes)?;
        }
        answer.subscribe().block();
        let answer = answer.get().ok_or("no answer")?;
        let answer = answer.map_err(refused("second answer"))?;
        answer.map_err(|code| format!("{code:?}"))
    }

    pub(crate) fn answer(self) -> Result<(u16, String), String> {
        let response = self.send()?;
        let mut told = Vec::new();
        read(&response, |bytes| {
            let left = TOLD_BYTES - told.len();
            told.extend_from_slice(bytes.get(..left).unwrap_or(bytes));
        })?;
        Ok((
            response.status(),
            String::from_utf8_lossy(&told).into_owned(),
        ))
    }

    pub(crate) fn length(self) -> Result<u64, String> {
        let response = self.send()?;
        let mut length = 0;
        read(&response, |bytes| length += bytes.len() as u64)?;
        Ok(length)
    }
}

fn write(body: OutgoingBody, bytes: u64) -> Result<(), String> {
    let stream = body.write().map_err(refused("stream"))?;
    let mut left = bytes;
    while left > 0 {
        let piece = left.min(PIECE_BYTES);
        let piece_bytes = vec![b'x'; usize::try_from(piece).unwrap_or_default()];
        let written = stream.blocking_write_and_flush(&piece_bytes);
        written.map_err(|error| format!("{error:?}"))?;
        left -= piece;
    }
    drop(stream);
    OutgoingBody::finish(body, None).map_err(|code| format!("{code:?}"))
}

fn read(response: &IncomingResponse, mut take: impl FnMut(&[u8])) -> Result<(), String> {
    let body: IncomingBody = response.consume().map_err(refused("body"))?;
    let stream: InputStream = body.stream().map_err(refused("stream"))?;
    loop {
        match stream.blocking_read(16 * 1024) {
            Ok(bytes) => take(&bytes),
            Err(StreamError::Closed) => return Ok(()),
            Err(StreamError::LastOperationFailed(error)) => return Err(error.to_debug_string()),
        }
    }
}

pub(crate) fn keep_fields(count: u32, bytes: u32) -> u32 {
    let mut kept = Vec::with_capacity(count as usize);
    let value = vec![b'x'; bytes as usize];
    for _ in 0..count {
        let fields = Fields::new();
        if fields.append("x-kept", &value).is_err() {
            break;
        }
        kept.push(fields);
    }
    kept.len() as u32
}
