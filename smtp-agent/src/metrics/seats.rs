//! Who is connected: as many as there is room for. Who comes then gets the room of one that has been idle for longest,
//! else of one that does not read what it asked for.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    task::{AbortHandle, JoinSet},
    time::{Sleep, sleep},
};

/// How often room is looked for while everybody is being answered.
const AGAIN: Duration = Duration::from_millis(20);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Doing {
    /// For its next request.
    Waiting,
    /// The client does not take what is written.
    Stuck,
    Answering,
}

/// What one does, and since when.
#[derive(Debug, Clone)]
pub(super) struct Activity(Arc<Mutex<(Doing, Instant)>>);

impl Activity {
    fn new() -> Self {
        Self(Arc::new(Mutex::new((Doing::Waiting, Instant::now()))))
    }

    pub(super) fn set(&self, doing: Doing) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (doing, Instant::now());
    }

    fn get(&self) -> (Doing, Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Dropped, it closes every connection.
pub(super) struct Seats {
    most: usize,
    taken: Vec<(Activity, AbortHandle)>,
    tasks: JoinSet<()>,
}

impl Seats {
    pub(super) fn new(most: usize) -> Self {
        Self { most, taken: Vec::new(), tasks: JoinSet::new() }
    }

    /// Waits for room, or makes it. Who is being answered keeps it.
    pub(super) async fn make_room(&mut self) -> Activity {
        loop {
            while self.tasks.try_join_next().is_some() {}
            self.taken.retain(|(_, task)| !task.is_finished());
            if self.taken.len() < self.most {
                return Activity::new();
            }
            let all = self.taken.iter().enumerate().map(|(at, (activity, _))| (activity.get(), at));
            match all.filter(|((doing, _), _)| *doing != Doing::Answering).min() {
                Some((_, at)) => self.taken.swap_remove(at).1.abort(),
                None => sleep(AGAIN).await,
            }
        }
    }

    pub(super) fn take(&mut self, activity: Activity, connection: impl Future<Output = ()> + Send + 'static) {
        let task = self.tasks.spawn(connection);
        self.taken.push((activity, task));
    }
}

/// A stream whose other side must take in time what is written.
pub(super) struct Patient {
    stream: TcpStream,
    time: Duration,
    activity: Activity,
    /// Runs from the first time that not everything was taken to the next that it was.
    late: Option<Pin<Box<Sleep>>>,
}

impl Patient {
    pub(super) fn new(stream: TcpStream, time: Duration, activity: Activity) -> Self {
        Self { stream, time, activity, late: None }
    }

    /// What becomes of a write of so many octets.
    fn written(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
        offered: usize,
    ) -> Poll<io::Result<usize>> {
        if matches!(written, Poll::Ready(Ok(taken)) if taken == offered) {
            if self.late.take().is_some() {
                self.activity.set(Doing::Waiting);
            }
            return written;
        }
        let (time, activity) = (self.time, &self.activity);
        let late = self.late.get_or_insert_with(|| {
            activity.set(Doing::Stuck);
            Box::pin(sleep(time))
        });
        if written.is_pending() {
            ready!(late.as_mut().poll(cx));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        written
    }
}

impl AsyncRead for Patient {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Patient {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, data);
        self.written(cx, written, data.len())
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, data);
        self.written(cx, written, data.iter().map(|slice| slice.len()).sum())
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
