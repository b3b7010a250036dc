/// How many pages behind a fault come in with it: one, and more and more while a process goes through its memory in order.
///
/// A fault costs the process a round trip to the page server; the page behind it costs a copy. Pure.
struct ReadAhead {
    /// Pages at most; a fault this near behind the last ones still counts as in order.
    private let most: UInt64
    /// Places that are gone through at the same time, as by several threads.
    private static let mostStreams = 8

    private struct Stream {
        /// The first page that has not come in with a fault.
        let next: UInt64
        let window: UInt64
    }

    /// The latest ones last.
    private var streams: [Stream] = []

    init(most: UInt64) {
        self.most = most
    }

    /// Takes in a fault; returns how many pages behind it to bring in.
    mutating func faulted(on page: UInt64) -> UInt64 {
        var window: UInt64 = 1
        if let i = streams.firstIndex(where: { $0.next <= page && page - $0.next < most }) {
            window = min(streams.remove(at: i).window * 2, most)
        }
        if streams.count == Self.mostStreams { streams.removeFirst() }
        streams.append(Stream(next: page + 1 + window, window: window))
        return window
    }
}
