import Synchronization

/// A queue between tasks that holds a few elements: senders wait while it is full, the one receiver while it is empty.
///
/// Used where gRPC wants a closure that pulls and we have code that pushes; what waits here bounds the memory that a
/// slow link can cost.
package final class BoundedChannel<Element: Sendable>: Sendable {
    private struct Sender {
        var id: Int
        var element: Element
        var continuation: CheckedContinuation<Void, any Error>
    }

    private struct State {
        var nextID = 0
        var queue: [Element] = []
        var senders: [Sender] = []
        var receiver: CheckedContinuation<Element?, any Error>?
        /// Set once no more may be sent.
        var end: Result<Void, any Error>?
    }

    /// What becomes of an element that is sent.
    private enum Action {
        case accepted(CheckedContinuation<Element?, any Error>?)
        case waiting
        case refused(any Error)
    }

    private let state = Mutex(State())
    private let limit: Int

    /// An empty channel that holds up to `limit` elements.
    package init(limit: Int) {
        self.limit = max(limit, 1)
    }

    /// Queues an element, waiting while the channel is full.
    ///
    /// - Throws: The error that the channel was closed with, `CancellationError` where it was closed without one or the
    ///   task was cancelled.
    package func send(_ element: Element) async throws {
        let id = state.withLock { state in
            state.nextID += 1
            return state.nextID
        }
        try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                deliver(element, id, continuation)
            }
        } onCancel: {
            let sender = state.withLock { state -> Sender? in
                guard let index = state.senders.firstIndex(where: { $0.id == id }) else { return nil }
                return state.senders.remove(at: index)
            }
            sender?.continuation.resume(throwing: CancellationError())
        }
    }

    private func deliver(_ element: Element, _ id: Int, _ continuation: CheckedContinuation<Void, any Error>) {
        let cancelled = Task.isCancelled
        let action = state.withLock { state -> Action in
            if case .failure(let error)? = state.end { return .refused(error) }
            if cancelled || state.end != nil { return .refused(CancellationError()) }
            if let receiver = state.receiver {
                state.receiver = nil
                return .accepted(receiver)
            }
            if state.queue.count < limit {
                state.queue.append(element)
                return .accepted(nil)
            }
            state.senders.append(Sender(id: id, element: element, continuation: continuation))
            return .waiting
        }
        switch action {
        case .accepted(let receiver):
            receiver?.resume(returning: element)
            continuation.resume()
        case .waiting: break
        case .refused(let error): continuation.resume(throwing: error)
        }
    }

    /// The next element; nil once the channel was finished and is empty.
    ///
    /// One task at a time may wait here.
    package func next() async throws -> Element? {
        try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                receive(continuation)
            }
        } onCancel: {
            let receiver = state.withLock { state in
                defer { state.receiver = nil }
                return state.receiver
            }
            receiver?.resume(throwing: CancellationError())
        }
    }

    private func receive(_ continuation: CheckedContinuation<Element?, any Error>) {
        let cancelled = Task.isCancelled
        let outcome = state.withLock { state -> (Result<Element?, any Error>, Sender?)? in
            if !state.queue.isEmpty {
                let element = state.queue.removeFirst()
                guard !state.senders.isEmpty else { return (.success(element), nil) }
                let sender = state.senders.removeFirst()
                state.queue.append(sender.element)
                return (.success(element), sender)
            }
            if let end = state.end { return (end.map { nil }, nil) }
            guard !cancelled, state.receiver == nil else { return (.failure(CancellationError()), nil) }
            state.receiver = continuation
            return nil
        }
        guard let (result, sender) = outcome else { return }
        sender?.continuation.resume()
        continuation.resume(with: result)
    }

    /// Closes the channel; only the first call counts.
    ///
    /// Without an error, what is queued can still be received; with one, it is dropped and both sides get the error.
    package func finish(throwing error: (any Error)? = nil) {
        let (senders, receiver) = state.withLock { state in
            guard state.end == nil else { return ([Sender](), nil as CheckedContinuation<Element?, any Error>?) }
            state.end = error.map { .failure($0) } ?? .success(())
            if error != nil { state.queue = [] }
            defer {
                state.senders = []
                state.receiver = nil
            }
            return (state.senders, state.receiver)
        }
        for sender in senders { sender.continuation.resume(throwing: error ?? CancellationError()) }
        if let error { receiver?.resume(throwing: error) } else { receiver?.resume(returning: nil) }
    }
}
