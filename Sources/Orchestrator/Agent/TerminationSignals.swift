import Dispatch
import Glibc

/// SIGTERM and SIGINT as something to wait for.
package final class TerminationSignals: Sendable {
    private let arrivals: AsyncStream<Int32>
    // SAFETY: kept alive only; never used after init.
    private nonisolated(unsafe) let sources: [any DispatchSourceSignal]

    /// Takes the two signals over from their default of ending the process.
    package init() {
        let (stream, continuation) = AsyncStream.makeStream(of: Int32.self)
        arrivals = stream
        sources = [SIGTERM, SIGINT].map { number in
            signal(number, SIG_IGN)
            let source = DispatchSource.makeSignalSource(signal: number, queue: .global())
            source.setEventHandler { continuation.yield(number) }
            source.resume()
            return source
        }
    }

    /// Returns when one of them has arrived.
    package func wait() async {
        for await _ in arrivals { return }
    }
}
