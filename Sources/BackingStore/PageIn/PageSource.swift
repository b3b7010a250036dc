import Glibc
import Synchronization

/// Where the pages of one process come from: its backing file, and what is still on its way to it.
package final class PageSource: Sendable {
    let store: PageStore
    /// Pages to push first, most wanted first.
    let hot: [UInt64]
    /// Pages that come another way, in order.
    private let except: [Range<UInt64>]
    private struct Late {
        var pages: Set<UInt64>
        /// Those that have come, in order.
        var arrived: [UInt64] = []
    }
    private let late: Mutex<Late>
    private let onWanted: @Sendable (UInt64) -> Void
    private let inheritance = Mutex<[Range<UInt64>]>([])

    /// Pages of a store that holds a whole epoch, without those of `except`; those of `late` will arrive by
    /// ``arrived(_:)``.
    ///
    /// `onWanted` is called, on the server's thread, for a late page that the process waits for.
    package init(
        store: PageStore,
        hot: [UInt64] = [],
        except: [Range<UInt64>] = [],
        late: Set<UInt64> = [],
        onWanted: @escaping @Sendable (UInt64) -> Void = { _ in }
    ) {
        self.store = store
        self.hot = hot
        self.except = except
        self.late = Mutex(Late(pages: late))
        self.onWanted = onWanted
    }

    /// Pages, sorted, that the process inherits as they are in the store; set before it is restored.
    ///
    /// Nothing depends on it but who looks whether they are there.
    package var inherited: [Range<UInt64>] {
        get { inheritance.withLock { $0 } }
        set { inheritance.withLock { $0 = newValue } }
    }

    /// Says that late pages are in the store now; call ``PageServer/wake()`` afterwards.
    package func arrived(_ pages: some Sequence<UInt64>) {
        late.withLock { late in
            for page in pages where late.pages.remove(page) != nil { late.arrived.append(page) }
        }
    }

    /// Late pages that have come, but for the first so many; and whether all have.
    func arrivals(after count: Int) -> (pages: ArraySlice<UInt64>, isWhole: Bool) {
        late.withLock { ($0.arrived[count...], $0.pages.isEmpty) }
    }

    /// How many pages from `first` on are alike: here, or late.
    func alike(from first: UInt64, count: UInt64) -> (isLate: Bool, count: UInt64) {
        late.withLock { late in
            guard !late.pages.isEmpty else { return (false, count) }
            let isLate = late.pages.contains(first)
            var alike: UInt64 = 1
            while alike < count, late.pages.contains(first + alike) == isLate { alike += 1 }
            return (isLate, alike)
        }
    }

    func isLate(_ page: UInt64) -> Bool { late.withLock { $0.pages.contains(page) } }

    func want(_ page: UInt64) { onWanted(page) }

    /// Every page there is, or will be.
    var pages: [UInt64] {
        var held = store.pages(limit: Int(store.statistics.pages))
        if !except.isEmpty {
            var next = 0
            held.removeAll { page in
                while next < except.count, except[next].upperBound <= page { next += 1 }
                return next < except.count && except[next].contains(page)
            }
        }
        let coming = late.withLock { Array($0.pages) }
        return coming.isEmpty ? held : Set(held).union(coming).sorted()
    }
}

/// Why a process's pages cannot be served; it waits, and must be ended or restored from an epoch.
package struct PageInError: Error, Sendable, Equatable, CustomStringConvertible {
    /// The process as its own pid namespace numbers it.
    package let pid: pid_t
    /// The page number in the backing file.
    package let page: UInt64?
    package let cause: String

    /// The cause, with the process and the page.
    package var description: String {
        "process \(pid) cannot get page \(page.map { "0x" + String($0, radix: 16) } ?? "-"): \(cause)"
    }
}
