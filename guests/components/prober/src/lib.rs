//! A guest that reaches for whatever it is asked to, and tells what it got.

mod bindings {
    #![allow(
        missing_docs,
        unsafe_code,
        reason = "the generated canonical ABI glue is unsafe by nature"
    )]
    wit_bindgen::generate!({ path: "wit", world: "prober" });
    use super::Prober;
    export!(Prober);
}

mod requests;

use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, Hasher};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::time::{Instant, SystemTime};

use bindings::exports::airssys::prober::{files, http, net, process};

struct Prober;

fn told<T>(outcome: io::Result<T>) -> Result<T, String> {
    outcome.map_err(|error| match error.raw_os_error() {
        Some(code) => format!("{error} (errno {code})"),
        None => error.to_string(),
    })
}

fn fill(mut file: File, bytes: u64) -> (u64, Option<String>) {
    let piece = [b'x'; 4096];
    let mut written = 0;
    while written < bytes {
        let left = usize::try_from(bytes - written).unwrap_or(usize::MAX);
        match file.write(piece.get(..left).unwrap_or(&piece)) {
            Ok(0) => return (written, Some(String::from("nothing written"))),
            Ok(n) => written += n as u64,
            Err(error) => return (written, told::<()>(Err(error)).err()),
        }
    }
    (written, None)
}

impl files::Guest for Prober {
    fn read(path: String) -> Result<String, String> {
        told(fs::read_to_string(path))
    }

    fn write(path: String, text: String) -> Result<(), String> {
        told(fs::write(path, text))
    }

    fn fill(path: String, bytes: u64) -> (u64, Option<String>) {
        match OpenOptions::new().create(true).append(true).open(path) {
            Ok(file) => fill(file, bytes),
            Err(error) => (0, told::<()>(Err(error)).err()),
        }
    }

    fn fill_nameless(path: String, bytes: u64) -> (u64, Option<String>) {
        let open = File::create(&path).and_then(|file| fs::remove_file(&path).map(|()| file));
        match open {
            Ok(file) => fill(file, bytes),
            Err(error) => (0, told::<()>(Err(error)).err()),
        }
    }

    fn set_length(path: String, bytes: u64) -> Result<(), String> {
        let open = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(false)
            .open(path);
        told(open.and_then(|file| file.set_len(bytes)))
    }

    fn names(path: String) -> Result<Vec<String>, String> {
        let name = |entry: io::Result<fs::DirEntry>| {
            entry.map(|entry| entry.file_name().to_string_lossy().into_owned())
        };
        told(fs::read_dir(path).and_then(|entries| entries.map(name).collect()))
    }

    fn make_directory(path: String) -> Result<(), String> {
        told(fs::create_dir(path))
    }

    fn remove(path: String) -> Result<(), String> {
        told(fs::remove_file(path))
    }

    fn rename(from: String, to: String) -> Result<(), String> {
        told(fs::rename(from, to))
    }

    fn link(from: String, to: String) -> Result<(), String> {
        told(fs::hard_link(from, to))
    }
}

impl net::Guest for Prober {
    fn resolve(name: String) -> Result<Vec<String>, String> {
        let found = (name.as_str(), 0).to_socket_addrs();
        told(found.map(|found| found.map(|address| address.ip().to_string()).collect()))
    }

    fn connect(address: String) -> Result<String, String> {
        told(TcpStream::connect(address).and_then(|mut stream| {
            stream.write_all(b"ping")?;
            let mut answer = [0; 64];
            let read = stream.read(&mut answer)?;
            Ok(String::from_utf8_lossy(answer.get(..read).unwrap_or_default()).into_owned())
        }))
    }

    fn exchange(address: String) -> Result<String, String> {
        told(UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
            socket.send_to(b"ping", address)?;
            let mut answer = [0; 64];
            let (read, _) = socket.recv_from(&mut answer)?;
            Ok(String::from_utf8_lossy(answer.get(..read).unwrap_or_default()).into_owned())
        }))
    }

    fn listen(address: String) -> Result<String, String> {
        told(
            TcpListener::bind(address)
                .and_then(|listener| listener.local_addr().map(|address| address.to_string())),
        )
    }

    fn serve(address: String, connections: u32) -> Result<u32, String> {
        let listener = told(TcpListener::bind(address))?;
        let mut open = Vec::new();
        for answered in 0..connections {
            match listener.accept() {
                Ok((mut stream, _)) => {
                    let mut asked = [0; 4];
                    told(stream.read_exact(&mut asked))?;
                    told(stream.write_all(b"pong"))?;
                    open.push(stream);
                }
                // What was answered is told all the same.
                Err(_) => return Ok(answered),
            }
        }
        Ok(connections)
    }

    fn open_sockets(count: u32) -> (u32, Option<String>) {
        let mut open = Vec::new();
        for had in 0..count {
            match UdpSocket::bind("0.0.0.0:0") {
                Ok(socket) => open.push(socket),
                Err(error) => return (had, told::<()>(Err(error)).err()),
            }
        }
        (count, None)
    }
}

impl http::Guest for Prober {
    fn get(url: String) -> Result<(u16, String), String> {
        requests::Request::to("GET", &url)?.answer()
    }

    fn get_within(url: String, milliseconds: u64) -> Result<(u16, String), String> {
        requests::Request::to("GET", &url)?
            .within(milliseconds)
            .answer()
    }

    fn ask(method: String, url: String) -> Result<(u16, String), String> {
        requests::Request::to(&method, &url)?.answer()
    }

    fn get_with_header(url: String, bytes: u32) -> Result<(u16, String), String> {
        requests::Request::to("GET", &url)?.header(bytes)?.answer()
    }

    fn post(url: String, bytes: u64) -> Result<(u16, String), String> {
        requests::Request::to("POST", &url)?.body(bytes).answer()
    }

    fn length(url: String) -> Result<u64, String> {
        requests::Request::to("GET", &url)?.length()
    }

    fn hold(url: String, count: u32, sockets: u32) -> (u32, Option<String>) {
        let sockets: Vec<_> = (0..sockets).map(|_| UdpSocket::bind("0.0.0.0:0")).collect();
        if sockets.iter().any(Result::is_err) {
            return (0, Some(String::from("no socket")));
        }
        let mut held = Vec::new();
        for had in 0..count {
            let sent = requests::Request::to("GET", &url).and_then(requests::Request::send);
            match sent {
                Ok(response) => held.push(response),
                Err(error) => return (had, Some(error)),
            }
        }
        (count, None)
    }

    fn keep_fields(count: u32, bytes: u32) -> u32 {
        requests::keep_fields(count, bytes)
    }
}

impl process::Guest for Prober {
    fn variables() -> Vec<(String, String)> {
        std::env::vars().collect()
    }

    fn arguments() -> Vec<String> {
        std::env::args().collect()
    }

    fn input() -> String {
        let mut text = String::new();
        match io::stdin().read_to_string(&mut text) {
            Ok(_) => text,
            Err(error) => error.to_string(),
        }
    }

    fn print(text: String) {
        let mut out = io::stdout();
        // Nobody to tell where standard output is gone.
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }

    fn print_error(text: String) {
        // As above.
        let _ = io::stderr().write_all(text.as_bytes());
    }

    fn clocks() -> (u64, u64) {
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let nanos = |time: std::time::Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let one = Instant::now();
        let between = one.elapsed();
        (wall.map(nanos).unwrap_or_default(), nanos(between))
    }

    fn random() -> u64 {
        std::hash::RandomState::new().build_hasher().finish()
    }
}
