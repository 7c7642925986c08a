//! The agent's end of the control socket.

use std::{
    fs,
    io::ErrorKind,
    os::unix::{fs::PermissionsExt, net::UnixStream as StdStream},
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    sync::{Semaphore, broadcast::error::RecvError},
};

use super::{Answer, REQUEST_LIMIT, Request, SOCKET};
use crate::{
    daemon::{
        reload::{Cause, reload},
        shared::Shared,
    },
    exit::{Failure, Result},
};

const REQUEST_DEADLINE: Duration = Duration::from_secs(5);
const CONNECTIONS: usize = 64;

/// The listening socket. Dropping it removes the file.
pub struct Listener {
    listener: UnixListener,
    path: PathBuf,
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Makes the run directory and listens in it. Must be called inside the runtime.
pub fn bind(run: &Path) -> Result<Listener> {
    fs::create_dir_all(run).map_err(|e| Failure::from_io(&e, format!("[paths] run = {run:?} cannot be made")))?;
    let path = run.join(SOCKET);
    match StdStream::connect(&path) {
        Ok(_) => {
            return Err(Failure::unavailable(format!(
                "another smtp-agent listens on {path:?}; stop it first, or give this one its own [paths] run"
            )));
        }
        Err(e) if e.kind() == ErrorKind::ConnectionRefused => {
            // Left over from an agent that was killed.
            fs::remove_file(&path)
                .map_err(|e| Failure::from_io(&e, format!("the stale socket {path:?} cannot be removed")))?;
        }
        Err(_) => {}
    }
    let listener = UnixListener::bind(&path)
        .map_err(|e| Failure::from_io(&e, format!("the control socket {path:?} cannot be made")))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))
        .map_err(|e| Failure::from_io(&e, format!("the control socket {path:?} cannot be closed to others")))?;
    Ok(Listener { listener, path })
}

/// Serves until the task is dropped.
pub async fn serve(shared: Arc<Shared>, listener: Listener) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        match listener.listener.accept().await {
            Ok((stream, _)) => {
                let shared = shared.clone();
                tokio::spawn(async move {
                    if let Err(e) = handle(&shared, stream).await {
                        tracing::debug!("a control connection ended: {e}");
                    }
                    drop(permit);
                });
            }
            Err(e) => {
                tracing::warn!("the control socket cannot accept: {e}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn handle(shared: &Shared, mut stream: UnixStream) -> std::io::Result<()> {
    let peer = stream.peer_cred()?.uid();
    if peer != 0 && peer != nix::unistd::geteuid().as_raw() {
        let message = "only root may control smtp-agent".to_owned();
        return answer(&mut stream, &Answer::Failed { code: crate::exit::Code::NotPermitted as u8, message }).await;
    }
    let mut line = String::new();
    let (read, mut write) = stream.split();
    let mut read = BufReader::new(read.take(REQUEST_LIMIT));
    match tokio::time::timeout(REQUEST_DEADLINE, read.read_line(&mut line)).await {
        Ok(Ok(_)) => {}
        Ok(Err(e)) if e.kind() == ErrorKind::InvalidData => {}
        Ok(Err(e)) => return Err(e),
        Err(_) => return Err(ErrorKind::TimedOut.into()),
    }
    match serde_json::from_str::<Request>(&line) {
        Ok(Request::Events) => events(shared, &mut stream).await,
        Ok(Request::Reload) => {
            let outcome = match reload(shared, Cause::Asked).await {
                Ok(generation) => Answer::Reloaded { generation },
                Err(e) => Answer::Failed { code: e.code as u8, message: e.message },
            };
            answer(&mut write, &outcome).await
        }
        Err(e) => {
            let code = crate::exit::Code::Usage as u8;
            answer(&mut write, &Answer::Failed { code, message: format!("not a request: {e}") }).await
        }
    }
}

async fn answer(stream: &mut (impl AsyncWriteExt + Unpin), answer: &Answer) -> std::io::Result<()> {
    let mut line = serde_json::to_string(answer)?;
    line.push('\n');
    stream.write_all(line.as_bytes()).await
}

async fn events(shared: &Shared, stream: &mut UnixStream) -> std::io::Result<()> {
    let mut listener = shared.events.subscribe();
    answer(stream, &Answer::Listening).await?;
    let (mut read, mut write) = stream.split();
    let mut byte = [0];
    loop {
        tokio::select! {
            // The listener says nothing more; an end of its stream is its farewell.
            gone = read.read(&mut byte) => if !matches!(gone, Ok(1)) { return Ok(()) },
            event = listener.recv() => match event {
                Ok(line) => {
                    write.write_all(line.as_bytes()).await?;
                    write.write_all(b"\n").await?;
                }
                Err(RecvError::Lagged(missed)) => {
                    shared.status.events_lost_to_slow_listeners.fetch_add(missed, Ordering::Relaxed);
                }
                Err(RecvError::Closed) => return Ok(()),
            },
        }
    }
}
