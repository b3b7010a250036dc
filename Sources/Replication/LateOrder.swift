import BackingStore

/// In which order late pages are sent: those that are waited for, what follows the latest of these, hot ones, the rest.
///
/// Pure.
struct LateOrder: Sendable {
    /// Pages that are sent ahead of the rest because the one before them was waited for.
    private static let mostAhead = 64

    /// The late pages of one process, in order, of which some are sent.
    private struct Pages {
        let numbers: [UInt64]
        /// For each page the index of one behind it, or its own while it has not been sent.
        private var next: [Int]
        private(set) var left: Int

        init(_ ranges: [Range<UInt64>]) {
            numbers = Array(ranges.joined())
            next = Array(0...numbers.count)
            left = numbers.count
        }

        /// The first index from `index` on of a page that has not been sent.
        mutating func unsent(from index: Int) -> Int? {
            var i = index
            while next[i] != i {
                next[i] = next[next[i]]
                i = next[i]
            }
            return i < numbers.count ? i : nil
        }

        /// The index of the first page from `page` on.
        func index(of page: UInt64) -> Int {
            var low = 0
            var high = numbers.count
            while low < high {
                let middle = (low + high) / 2
                if numbers[middle] < page { low = middle + 1 } else { high = middle }
            }
            return low
        }

        /// Takes a page out; false where it is not there, or not any more.
        mutating func take(_ page: UInt64) -> Bool {
            let i = index(of: page)
            guard i < numbers.count, numbers[i] == page, next[i] == i else { return false }
            next[i] = i + 1
            left -= 1
            return true
        }
    }

    private var pages: [Int32: Pages]
    private let processes: [Int32]
    private var wanted: [(process: Int32, page: UInt64)] = []
    private var hot: [(process: Int32, page: UInt64)]
    private var ahead: (process: Int32, index: Int, left: Int)?

    /// Late pages, and which of them, or others, are hot.
    init(_ late: [Int32: [Range<UInt64>]], hot: [Int32: [Range<UInt64>]] = [:]) {
        pages = late.mapValues(Pages.init)
        processes = late.keys.sorted()
        self.hot = hot.sorted { $0.key > $1.key }.flatMap { process, ranges in
            ranges.joined().reversed().map { (process, $0) }
        }
    }

    /// Everything has been sent.
    var isEmpty: Bool { pages.values.allSatisfy { $0.left == 0 } }

    /// A process waits for pages.
    mutating func want(_ process: Int32, _ ranges: [Range<UInt64>]) {
        guard let known = pages[process] else { return }
        for page in ranges.joined() {
            wanted.append((process, page))
            ahead = (process, known.index(of: page), Self.mostAhead)
        }
    }

    /// Pages of one process that are waited for, at most so many; nil where none are.
    mutating func nextWanted(limit: Int) -> (process: Int32, pages: [Range<UInt64>])? {
        var taken: [UInt64] = []
        var process: Int32?
        var rest = wanted[...]
        while let first = rest.first, taken.count < limit, process == nil || process == first.process {
            rest = rest.dropFirst()
            guard pages[first.process]?.take(first.page) == true else { continue }
            process = first.process
            taken.append(first.page)
        }
        wanted = Array(rest)
        return process.map { ($0, Self.ranges(of: taken)) }
    }

    /// Pages of one process that nobody waits for, at most so many; nil where nothing is left.
    mutating func nextOther(limit: Int) -> (process: Int32, pages: [Range<UInt64>])? {
        if let found = following(limit) { return found }
        while let (process, page) = hot.popLast() {
            if pages[process]?.take(page) == true { return (process, [page..<page + 1]) }
        }
        for process in processes {
            let found = takeRun(process, from: 0, limit: limit).pages
            if !found.isEmpty { return (process, Self.ranges(of: found)) }
        }
        return nil
    }

    private mutating func following(_ limit: Int) -> (process: Int32, pages: [Range<UInt64>])? {
        guard let from = ahead else { return nil }
        let run = takeRun(from.process, from: from.index, limit: min(limit, from.left))
        let left = from.left - run.pages.count
        ahead = run.pages.isEmpty || left == 0 ? nil : (from.process, run.next, left)
        return run.pages.isEmpty ? nil : (from.process, Self.ranges(of: run.pages))
    }

    private mutating func takeRun(_ process: Int32, from index: Int, limit: Int) -> (pages: [UInt64], next: Int) {
        var taken: [UInt64] = []
        var at = index
        while taken.count < limit, let i = pages[process]?.unsent(from: at), let page = pages[process]?.numbers[i] {
            _ = pages[process]?.take(page)
            taken.append(page)
            at = i + 1
        }
        return (taken, at)
    }

    private static func ranges(of numbers: [UInt64]) -> [Range<UInt64>] { normalized(numbers.map { $0..<$0 + 1 }) }
}
