import BackingStore
import Synchronization

/// The late pages of an arrival: which of them processes wait for, and who is told that, and when they come.
///
/// Called from the page server's thread, which must not wait, and from the stream that brings them.
final class LatePages: Sendable {
    private struct State {
        /// Since when.
        var wanted: [Int32: [UInt64: ContinuousClock.Instant]] = [:]
        var figures = LateFigures()
        var tell: @Sendable (EpochMessage) -> Void = { _ in }
        var onArrival: @Sendable (Int32, [UInt64]) -> Void = { _, _ in }
        var heard = ContinuousClock.now
    }

    private let state = Mutex(State())

    /// A process waits for a page: asked for once.
    func want(_ process: Int32, _ page: UInt64) {
        state.withLock { state in
            guard state.wanted[process]?[page] == nil else { return }
            state.wanted[process, default: [:]][page] = .now
            state.figures.waits += 1
            state.tell(.wanted(process: process, pages: [page..<page + 1]))
        }
    }

    /// Late pages are in their backing file.
    func arrived(_ process: Int32, _ pages: [UInt64]) {
        let onArrival = state.withLock { state in
            state.heard = .now
            state.figures.pages += pages.count
            for page in pages {
                guard let since = state.wanted[process]?.removeValue(forKey: page) else { continue }
                state.figures.waited.append(ContinuousClock.now - since)
            }
            return state.onArrival
        }
        onArrival(process, pages)
    }

    /// Sets who is told that pages have come.
    func onArrival(_ action: @escaping @Sendable (Int32, [UInt64]) -> Void) {
        state.withLock { $0.onArrival = action }
    }

    /// Sets who is asked for pages, and asks for all that are waited for.
    func ask(_ tell: @escaping @Sendable (EpochMessage) -> Void) {
        state.withLock { state in
            state.tell = tell
            for (process, pages) in state.wanted where !pages.isEmpty {
                tell(.wanted(process: process, pages: pages.keys.sorted().map { $0..<$0 + 1 }))
            }
        }
    }

    /// Forgets both: they hold what they are about, whose pages hold this.
    func letGo() {
        state.withLock { state in
            state.tell = { _ in }
            state.onArrival = { _, _ in }
        }
    }

    /// What has come so far.
    var figures: LateFigures { state.withLock(\.figures) }

    /// Since a page came last.
    var silence: Duration { state.withLock { ContinuousClock.now - $0.heard } }

    /// Silence is counted from now on.
    func touch() {
        state.withLock { $0.heard = .now }
    }
}

/// How late pages came.
package struct LateFigures: Sendable {
    package var pages = 0
    /// How often a process had to wait for one.
    package var waits = 0
    /// How long each of these took that has ended.
    package var waited: [Duration] = []

    /// The wait that this share of them was not longer than, 1 for the longest; zero where there was none.
    package func wait(_ share: Double) -> Duration {
        guard !waited.isEmpty else { return .zero }
        let rank = Int((share * Double(waited.count)).rounded(.up)) - 1
        return waited.sorted()[min(max(rank, 0), waited.count - 1)]
    }
}

/// What a replica holds, as it is served.
package struct ServedReplica {
    let stores: [Int32: PageStore]
    let hot: [Int32: [UInt64]]
    let imaged: [Int32: [Range<UInt64>]]
    /// Pages that are still on their way.
    let late: [Int32: Set<UInt64>]
}
