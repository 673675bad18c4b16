//! Things in numbered slots that are used again.

/// No slot.
pub(crate) const NONE: u32 = u32::MAX;

/// Slots of a page. One vector would have twice the slots it needs after it has grown, and would copy
/// tens of megabytes within one look at a ring.
const PAGE: usize = 1 << PAGE_BITS;
const PAGE_BITS: u32 = 9;

/// Values by slot number. A number is valid until its value is removed.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    /// All are full of slots but for the last.
    pages: Vec<Vec<Option<T>>>,
    free: Vec<u32>,
    len: usize,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Slab { pages: Vec::new(), free: Vec::new(), len: 0 }
    }
}

impl<T> Slab<T> {
    pub(crate) fn insert(&mut self, value: T) -> u32 {
        self.len += 1;
        let Some(index) = self.free.pop() else { return self.push(value) };
        if let Some(slot) = self.slot(index) {
            *slot = Some(value);
        }
        index
    }

    fn push(&mut self, value: T) -> u32 {
        // The tables' limits keep the number of slots far below `NONE`.
        let index = u32::try_from(self.slots()).unwrap_or(NONE);
        match self.pages.last_mut().filter(|page| page.len() < PAGE) {
            Some(page) => page.push(Some(value)),
            None => {
                // The first grows: most slabs of a small machine never fill it.
                let mut page = Vec::with_capacity(if self.pages.is_empty() { 1 } else { PAGE });
                page.push(Some(value));
                self.pages.push(page);
            }
        }
        index
    }

    /// Slots in use or free: numbers are below it.
    pub(crate) fn slots(&self) -> usize {
        let before = self.pages.len().saturating_sub(1) * PAGE;
        before + self.pages.last().map_or(0, Vec::len)
    }

    pub(crate) fn get(&self, index: u32) -> Option<&T> {
        let (page, slot) = place(index);
        self.pages.get(page)?.get(slot)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        self.slot(index)?.as_mut()
    }

    pub(crate) fn remove(&mut self, index: u32) -> Option<T> {
        let value = self.slot(index)?.take()?;
        self.free.push(index);
        self.len -= 1;
        Some(value)
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.pages.iter().flatten().flatten()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.pages.iter_mut().flatten().flatten()
    }

    fn slot(&mut self, index: u32) -> Option<&mut Option<T>> {
        let (page, slot) = place(index);
        self.pages.get_mut(page)?.get_mut(slot)
    }
}

/// Page, and slot in it.
fn place(index: u32) -> (usize, usize) {
    ((index >> PAGE_BITS) as usize, index as usize % PAGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_found_on_every_page_and_used_again() {
        let mut slab = Slab::default();
        let count = 3 * PAGE as u32 + 7;
        for value in 0..count {
            assert_eq!(slab.insert(value), value);
        }
        assert!((0..count).all(|index| slab.get(index) == Some(&index)));
        assert_eq!((slab.len(), slab.slots()), (count as usize, count as usize));
        assert_eq!(slab.get(count), None);
        for index in [0, PAGE as u32 - 1, PAGE as u32, count - 1] {
            assert_eq!(slab.remove(index), Some(index));
            assert_eq!(slab.get(index), None);
            assert_eq!(slab.remove(index), None);
            assert_eq!(slab.insert(index + 1), index);
            assert_eq!(slab.get_mut(index), Some(&mut (index + 1)));
        }
        assert_eq!(slab.iter().count(), count as usize);
        assert_eq!(slab.slots(), count as usize);
    }
}
