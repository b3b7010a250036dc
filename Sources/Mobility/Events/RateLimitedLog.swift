import Logging
import Synchronization

/// Writes at most one line per counter and interval, with how many it held back, so that a flood costs no disk.
package final class RateLimitedLog: Sendable {
    private struct Entry {
        var last: ContinuousClock.Instant
        var held = 0
    }

    private let logger: Logger
    private let interval: Duration
    // One entry per counter at most: bounded by the enumeration.
    private let entries = Mutex<[RoamingCounter: Entry]>([:])

    package init(logger: Logger, interval: Duration = .seconds(10)) {
        self.logger = logger
        self.interval = interval
    }

    /// Logs a warning unless the same counter was logged within the interval.
    package func warning(
        _ message: @autoclosure () -> Logger.Message,
        _ counter: RoamingCounter,
        _ metadata: @autoclosure () -> Logger.Metadata = [:]
    ) {
        let now = ContinuousClock.now
        let held: Int? = entries.withLock { entries in
            if var entry = entries[counter], now - entry.last < interval {
                entry.held += 1
                entries[counter] = entry
                return nil
            }
            let held = entries[counter]?.held ?? 0
            entries[counter] = Entry(last: now)
            return held
        }
        guard let held else { return }
        var fields = metadata()
        fields["counter"] = .string(counter.name)
        if held > 0 { fields["held_back"] = .stringConvertible(held) }
        logger.warning(message(), metadata: fields)
    }

    /// Logs something rare that is no complaint.
    package func info(
        _ message: @autoclosure () -> Logger.Message,
        _ metadata: @autoclosure () -> Logger.Metadata = [:]
    ) {
        logger.info(message(), metadata: metadata())
    }
}
