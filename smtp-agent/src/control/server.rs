//! The agent's end of the control socket.

use std::{
    fs,
    future::Future,
    io::{self, ErrorKind},
    os::unix::{fs::PermissionsExt, net::UnixStream as StdStream},
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    sync::{Semaphore, broadcast::error::RecvError},
    time::timeout,
};

use super::{
    Answer, Request, SOCKET,
    audit::{Asker, Outcome},
    request::REQUEST_LIMIT,
    rights::{self, Members, Peer, Standing},
};
use crate::{
    accounts::database::user_name,
    by_hand::{By, Says},
    daemon::{
        by_hand,
        reload::{Cause, reload},
        shared::Shared,
    },
    exit::{Failure, Result},
};

/// How long a request may take to come, and an answer to be taken.
const DEADLINE: Duration = Duration::from_secs(5);
const CONNECTIONS: usize = 64;
/// Of these, so many by members of the group, and so many that follow events for as long as they like: neither can keep
/// root out.
const MEMBERS: usize = 32;
const LISTENERS: usize = 24;

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
pub fn bind(run: &Path, members: Option<&Members>) -> Result<Listener> {
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
    let listener = Listener { listener, path };
    if members.is_some() {
        rights::give(run, &listener.path, None, members)?;
    }
    Ok(listener)
}

/// Room that connections of a kind share.
struct Room {
    members: Semaphore,
    listeners: Semaphore,
}

/// Serves until the task is dropped.
pub async fn serve(shared: Arc<Shared>, listener: Listener) {
    let all = Arc::new(Semaphore::new(CONNECTIONS));
    let room = Arc::new(Room { members: Semaphore::new(MEMBERS), listeners: Semaphore::new(LISTENERS) });
    loop {
        let Ok(permit) = all.clone().acquire_owned().await else { return };
        match listener.listener.accept().await {
            Ok((stream, _)) => {
                let (shared, room) = (shared.clone(), room.clone());
                tokio::spawn(async move {
                    if let Err(e) = handle(shared, &room, stream).await {
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

fn failed(failure: Failure) -> Answer {
    Answer::Failed { code: failure.code as u8, message: failure.message }
}

fn too_many(of: &str) -> Answer {
    failed(Failure::unavailable(format!("the agent has too many connections of {of}; try again when some have ended")))
}

async fn handle(shared: Arc<Shared>, room: &Room, mut stream: UnixStream) -> io::Result<()> {
    let credentials = stream.peer_cred()?;
    let peer = Peer { uid: credentials.uid(), gid: credentials.gid(), pid: credentials.pid() };
    let members = shared.rights.members();
    let standing = {
        let members = members.clone();
        // The databases may be somewhere in the network.
        tokio::task::spawn_blocking(move || peer.standing(members.as_ref())).await.map_err(io::Error::other)?
    };
    let _member = match standing {
        Standing::Root => None,
        Standing::Member => match room.members.try_acquire() {
            Ok(permit) => Some(permit),
            Err(_) => return answer(&mut stream, &too_many("the group")).await,
        },
        Standing::Stranger => {
            tokio::task::block_in_place(|| shared.audit.refusal(peer));
            let message = match members {
                Some(members) => format!("only root and members of the group {} may control smtp-agent", members.name),
                None => "only root may control smtp-agent".to_owned(),
            };
            return answer(&mut stream, &failed(Failure::not_permitted(message))).await;
        }
    };
    let request = match request(&mut stream).await? {
        Ok(request) => request,
        Err(why) => return answer(&mut stream, &failed(Failure::config(format!("not a request: {why}")))).await,
    };
    if request == (Request::Events {}) {
        return match room.listeners.try_acquire() {
            Ok(_permit) => events(&shared, &mut stream).await,
            Err(_) => answer(&mut stream, &too_many("listeners")).await,
        };
    }
    // A change goes on to its end whether or not anybody waits for the answer.
    let done = tokio::spawn(async move { obey(&shared, peer, request).await });
    let told = done.await.map_err(io::Error::other)?;
    answer(&mut stream, &told).await
}

/// A request as it came, or why it is none.
async fn request(stream: &mut UnixStream) -> io::Result<Result<Request, String>> {
    let mut line = Vec::new();
    let mut read = BufReader::new(stream.take(REQUEST_LIMIT as u64));
    in_time(read.read_until(b'\n', &mut line)).await?;
    Ok(Request::parse(&line))
}

async fn in_time<T>(io: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(DEADLINE, io).await.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()))
}

/// Does what was asked for, and writes it down where it changes something.
async fn obey(shared: &Shared, peer: Peer, request: Request) -> Answer {
    let done = match &request {
        Request::Reload {} => reload(shared, Cause::Asked).await.map(|generation| Answer::Reloaded { generation }),
        Request::Allow(order) => by_hand::say(shared, by(peer), Says::Allowed, order).await,
        Request::Block(order) => by_hand::say(shared, by(peer), Says::Blocked, order).await,
        Request::Release { whom } => by_hand::release(shared, whom).await,
        Request::Said {} => Ok(Answer::Said { said: shared.said().holding() }),
        Request::Events {} => Ok(Answer::Listening),
    };
    let outcome = match &done {
        Ok(Answer::Released { deeds, .. }) if deeds.is_empty() => Ok(Outcome::Nothing),
        Ok(_) => Ok(Outcome::Done),
        Err(failure) => Err(failure.message.as_str()),
    };
    tokio::task::block_in_place(|| shared.audit.change(Asker::Peer(peer), &request, outcome));
    done.unwrap_or_else(failed)
}

fn by(peer: Peer) -> By {
    By { uid: peer.uid, user: user_name(peer.uid) }
}

async fn answer(stream: &mut (impl AsyncWriteExt + Unpin), answer: &Answer) -> io::Result<()> {
    let mut line = serde_json::to_string(answer)?;
    line.push('\n');
    in_time(stream.write_all(line.as_bytes())).await
}

async fn events(shared: &Shared, stream: &mut UnixStream) -> io::Result<()> {
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
