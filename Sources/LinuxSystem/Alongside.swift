import Dispatch
import Synchronization

/// Does two pieces of blocking work at once, the first on a thread of its own, and returns when both have ended.
///
/// - Throws: the error of the second, else that of the first.
package func alongside<First: Sendable, Second>(
    _ first: @escaping @Sendable () throws -> First,
    _ second: () throws -> Second
) throws -> (First, Second) {
    let outcome = Outcome<First>()
    runOnThread {
        outcome.set(Result(catching: first))
    }
    let own = Result { try second() }
    let other = outcome.wait()
    let value = try own.get()
    return (try other.get(), value)
}

/// A result that one thread waits for.
private final class Outcome<Value: Sendable>: Sendable {
    private let result = Mutex<Result<Value, any Error>?>(nil)
    private let done = DispatchSemaphore(value: 0)

    func set(_ value: Result<Value, any Error>) {
        result.withLock { $0 = value }
        done.signal()
    }

    func wait() -> Result<Value, any Error> {
        done.wait()
        return result.withLock { $0 } ?? .failure(SyscallError("wait", code: 0))
    }
}
