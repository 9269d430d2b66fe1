//! A queue of bounded length between who takes frames and who segments them.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// What to do with a frame that comes while the queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum WhenFull {
    /// The frame that has waited longest is given up: what is answered is never older than the queue is long.
    DropOldest,
    /// Whoever brings it waits: nothing is lost, and the source is slowed down.
    Wait,
}

crate::named!("policy", WhenFull { DropOldest = "drop-oldest", Wait = "wait" });

/// First in, first out, at most `capacity` at a time.
#[derive(Debug)]
pub struct Queue<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
    capacity: usize,
    when_full: WhenFull,
}

#[derive(Debug)]
struct State<T> {
    waiting: VecDeque<T>,
    dropped: u64,
    closed: bool,
}

impl<T> Queue<T> {
    /// An empty queue; a capacity of 0 counts as 1.
    pub fn new(capacity: usize, when_full: WhenFull) -> Self {
        let state = State { waiting: VecDeque::new(), dropped: 0, closed: false };
        Self { state: Mutex::new(state), changed: Condvar::new(), capacity: capacity.max(1), when_full }
    }

    /// Appends `item`; `false` where the queue is closed and takes nothing any more.
    pub fn push(&self, item: T) -> bool {
        let mut state = self.lock();
        while self.when_full == WhenFull::Wait && state.waiting.len() >= self.capacity && !state.closed {
            state = self.wait(state);
        }
        if state.closed {
            return false;
        }
        while state.waiting.len() >= self.capacity {
            state.waiting.pop_front();
            state.dropped += 1;
        }
        state.waiting.push_back(item);
        self.changed.notify_all();
        true
    }

    /// Waits for the next item, which comes with the number of items dropped since the last one; `None` once the queue
    /// is closed and empty.
    pub fn pop(&self) -> Option<(T, u64)> {
        let mut state = self.lock();
        loop {
            if let Some(item) = state.waiting.pop_front() {
                let dropped = std::mem::take(&mut state.dropped);
                self.changed.notify_all();
                return Some((item, dropped));
            }
            if state.closed {
                return None;
            }
            state = self.wait(state);
        }
    }

    /// Takes nothing any more; what waits can still be taken out.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// The state is whole at every moment, so a thread that panicked while it held the lock does no harm.
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State<T>>) -> MutexGuard<'a, State<T>> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_are_dropped_and_counted() {
        let queue = Queue::new(2, WhenFull::DropOldest);
        (0..5).for_each(|item| assert!(queue.push(item)));
        assert_eq!(queue.pop(), Some((3, 3)));
        assert!(queue.push(5));
        queue.close();
        assert!(!queue.push(6));
        assert_eq!([queue.pop(), queue.pop(), queue.pop()], [Some((4, 0)), Some((5, 0)), None]);
    }

    #[test]
    fn a_full_queue_makes_its_source_wait_and_loses_nothing() {
        let queue = Queue::new(2, WhenFull::Wait);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                (0..100).for_each(|item| assert!(queue.push(item)));
                queue.close();
            });
            let mut taken = Vec::new();
            while let Some((item, dropped)) = queue.pop() {
                assert!(queue.lock().waiting.len() <= 2);
                assert_eq!(dropped, 0);
                taken.push(item);
            }
            assert_eq!(taken, Vec::from_iter(0..100));
        });
    }

    #[test]
    fn closing_wakes_whoever_waits() {
        let queue = Queue::new(1, WhenFull::Wait);
        assert!(queue.push(0));
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| queue.push(1));
            queue.close();
            assert!(!waiting.join().unwrap());
        });
    }
}
